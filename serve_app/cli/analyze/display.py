"""How a run looks: a bar on a terminal, a line now and then elsewhere, and a summary."""

import time
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from serve_app.cli.analyze.files import shown
from serve_app.cli.analyze.results import Kept, State

LINE_EVERY_S = 15.0
"""Without a terminal: seldom enough for a log, often enough to see that it goes on."""

MAX_SHOWN = 20
"""Failures that fit on a screen; all are in the results."""


class _RateColumn(ProgressColumn):
    """Files per second."""

    def render(self, task: Task) -> Text:
        """Show the mean of the last half minute, which is Rich's."""
        return Text(f"{task.speed:.1f}/s" if task.speed else "", style="progress.data.speed")


class Display:
    """What is seen while files are sent; use it as a context."""

    def __init__(self, console: Console, total: int, line_every_s: float | None = None) -> None:
        """Show ``total`` files to come."""
        self._console = console
        self._total = total
        self._line_every_s = LINE_EVERY_S if line_every_s is None else line_every_s
        self._waiting = False
        self._waited_at_s = float("-inf")
        self.done = 0
        self.failures: list[Kept] = []
        columns = (
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            _RateColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("[red]{task.fields[failures]}[/][yellow]{task.fields[reason]}[/]"),
        )
        self._bar = Progress(*columns, console=console, disable=not (console.is_terminal and total))
        self._task = self._bar.add_task("", total=total, failures="", reason="")
        self._began_s = self._line_at_s = self._ended_s = time.monotonic()

    def __enter__(self) -> Self:
        """Show it."""
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave the last state on the screen."""
        self._ended_s = time.monotonic()
        self._bar.stop()

    @property
    def per_second(self) -> float:
        """Files per second of the whole run."""
        return self._count / max(self._ended_s - self._began_s, 1e-3)

    def advance(self, kept: Kept) -> None:
        """Count a file."""
        if kept.state is State.DONE:
            self.done += 1
        else:
            self.failures.append(kept)
        failed = len(self.failures)
        failures = f"{failed} failed " if failed else ""
        self._bar.update(self._task, advance=1, failures=failures, reason="")
        if self._waiting:
            self._waiting = False
            self._print_line("The service answers again.")
        elif time.monotonic() - self._line_at_s >= self._line_every_s:
            per_second = self._count / max(time.monotonic() - self._began_s, 1e-3)
            left_s = (self._total - self._count) / per_second
            self._print_line(
                f"{self._count} of {self._total} files, {failed} failed, "
                f"{per_second:.1f} per second, {left_s / 60:.0f} min left",
            )

    def wait(self, reason: str) -> None:
        """Show that the service is waited for, and why."""
        self._bar.update(self._task, reason=escape(f"waiting: {shown(reason)}"))
        now_s = time.monotonic()
        if not self._waiting and now_s - self._waited_at_s >= self._line_every_s:
            self._waiting = True
            self._waited_at_s = now_s
            self._print_line(f"Waiting for the service: {shown(reason)}")

    @property
    def _count(self) -> int:
        return self.done + len(self.failures)

    def _print_line(self, text: str) -> None:
        if not self._console.is_terminal:
            self._line_at_s = time.monotonic()
            say(self._console, text)


def say(console: Console, text: str) -> None:
    """Print text as it is, however long."""
    console.print(text, soft_wrap=True, highlight=False, markup=False)


def list_failures(console: Console, failures: Iterable[Kept], where: str) -> None:
    """List files with their reasons, as many as fit on a screen."""
    failures = list(failures)
    if failures:
        console.print("[red]Failed:[/]")
    for kept in failures[:MAX_SHOWN]:
        say(console, f"  {shown(kept.version.path)}\n      {shown(kept.reason)}")
    if len(failures) > MAX_SHOWN:
        say(console, f"  … and {len(failures) - MAX_SHOWN} more; all are in {where}")
