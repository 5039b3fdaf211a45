"""A progress bar for one piece of long work after another."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn


class Bar:
    """A bar for one piece of long work after another."""

    def __init__(self, progress: Progress) -> None:
        """Show an empty bar."""
        self._progress = progress
        self._task = progress.add_task("", total=1.0)

    def show(self, title: str, share: float) -> None:
        """Say what goes on, and which share of it is done."""
        self._progress.update(self._task, description=escape(title), completed=share)


@contextmanager
def bar(console: Console) -> Iterator[Bar]:
    """Show progress while the block runs."""
    columns = (SpinnerColumn(), BarColumn(bar_width=30), TimeElapsedColumn())
    text = TextColumn("{task.description}")
    with Progress(*columns, text, console=console, transient=True) as progress:
        yield Bar(progress)
