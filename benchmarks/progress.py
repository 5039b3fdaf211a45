"""Progress for somebody who waits: which step runs, how much is done, how long is left."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class Steps:
    """A bar over steps whose lengths are known roughly beforehand."""

    def __init__(self, progress: Progress, total_s: float) -> None:
        """Show an empty bar of ``total_s`` expected seconds."""
        self._progress = progress
        self._task = progress.add_task("", total=total_s)

    @contextmanager
    def step(self, title: str, expected_s: float) -> Iterator[None]:
        """Show a step while the block runs."""
        self.show(title)
        yield
        self.advance(expected_s)

    def advance(self, expected_s: float) -> None:
        """Say that what was expected to take so long is done."""
        self._progress.advance(self._task, expected_s)

    def show(self, title: str) -> None:
        """Say what goes on without a step, as while something starts or stops."""
        self._progress.update(self._task, description=title)


@contextmanager
def steps(console: Console, total_s: float) -> Iterator[Steps]:
    """Show progress on ``console`` while the block runs."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("of about"),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        yield Steps(progress, total_s)
