"""How tuning looks: a bar while it measures, what was tried as a table, and what changes."""

from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Self

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from serve_app.cli.tune.bench import Trial
from serve_app.cli.tune.choice import Goal
from serve_app.cli.tune.crew import Figures
from serve_app.cli.tune.edit import Change
from serve_app.cli.tune.tuner import Tuned
from serve_app.validation import key_path


class Bar:
    """A bar over measurements on a terminal, a line for each elsewhere; use it as a context."""

    def __init__(self, console: Console) -> None:
        """Show nothing yet."""
        columns = (
            SpinnerColumn(),
            BarColumn(bar_width=20),
            TimeElapsedColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.description}"),
        )
        self._console = console
        self._progress = Progress(
            *columns, console=console, transient=True, disable=not console.is_terminal
        )
        self._task = self._progress.add_task("", total=0)
        self._begun = False

    def __enter__(self) -> Self:
        """Show it."""
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Take it away."""
        self._progress.stop()

    def expect(self, count: int) -> None:
        """So many measurements more are to come."""
        self._progress.update(self._task, total=(self._progress.tasks[0].total or 0) + count)

    def step(self, title: str) -> None:
        """The next measurement begins, so the one before is done."""
        self._progress.update(self._task, advance=int(self._begun), description=escape(title))
        self._begun = True
        if not self._console.is_terminal:
            self._console.print(f"measuring {title}", soft_wrap=True, highlight=False, markup=False)


def show_trials(tuned: Iterable[Tuned], goal: Goal, console: Console) -> None:
    """Show what was tried, and with which figures; what was chosen is bold."""
    for found in tuned:
        title = f"{found.name}: {found.cost_ms:.0f} ms of CPU for a request"
        chosen = {str(found.new)} | {
            f"{name}, batches of {node.max_batch_size}" for name, node in found.new.nodes.items()
        }
        console.print(_table(title, found.trials, chosen, goal))
        for trial in found.trials:
            if trial.figures is None:
                console.print(f"Not tried: {trial.title}, which {trial.note}.", soft_wrap=True)


def show_verified(found: Mapping[str, Figures], chosen: str, goal: Goal, console: Console) -> None:
    """Show what whole stacks did over HTTP."""
    trials = [Trial(title, figures) for title, figures in found.items()]
    console.print(_table("Stacks, over HTTP", trials, {chosen}, goal))


def show_changes(changes: Iterable[Change], console: Console) -> None:
    """Show what changes in the file, and why."""
    for change in changes:
        if change.reason:  # the name of a new entry has none
            key = key_path(change.key).removeprefix("applications[0].")
            text = f"{key}: {change.value}\n    {change.reason}"
            console.print(text, soft_wrap=True, highlight=False, markup=False)


def _table(title: str, trials: Iterable[Trial], chosen: set[str], goal: Goal) -> Table:
    table = Table(box=SIMPLE_HEAD, title=escape(title), title_justify="left")
    table.add_column("Tried")
    headings = ("per s", "ms, p50", "ms, p95", "CPU ms", "MB")
    for i, heading in enumerate(headings):
        counts = i == (0 if goal is Goal.THROUGHPUT else 1)
        table.add_column(heading, justify="right", no_wrap=True, style="bold" if counts else "")
    for trial in trials:
        style = "green" if trial.title in chosen else ""
        figures = trial.figures
        if figures is None:
            continue
        table.add_row(
            escape(trial.title),
            f"{figures.per_s:.1f}",
            f"{figures.p50_ms:.1f}",
            f"{figures.p95_ms:.1f}",
            f"{figures.cpu_ms:.1f}",
            f"{figures.memory_mb:,.0f}",
            style=style,
        )
    return table
