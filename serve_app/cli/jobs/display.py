"""How jobs look: a table, one in all its detail, and bars while they are waited for.

Without a terminal there are no bars, and a line for each step instead.
"""

import json
import time
from collections.abc import Callable, Iterable

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TransferSpeedColumn,
)
from rich.table import Table

from serve_app.cli.analyze.display import LINE_EVERY_S, say
from serve_app.cli.analyze.files import shown
from serve_app.cli.jobs.service import Job

_STYLES = {"completed": "green", "failed": "red", "in_progress": "cyan"}
_BAR_CHARACTERS = 30
_STEP_PERCENT = 10
"""Of progress, between two lines where there is no bar."""


def job_table(jobs: Iterable[Job]) -> Table:
    """List jobs."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for title in ("Job", "Task", "Status", "Done", "Created", ""):
        # On a narrow terminal everything is folded but ids: a part of an id can't be copied.
        table.add_column(title, no_wrap=title == "Job", overflow="fold")
    for job in jobs:
        table.add_row(
            job["job_id"],
            escape(job["task_type"]),
            _status(job),
            f"{job['progress']:.0f} %",
            _at(job["created_at"]),
            escape(_reason(job)),
        )
    return table


def job_details(job: Job) -> Table:
    """Show all of one job."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("Job", job["job_id"])
    table.add_row("Task", escape(job["task_type"]))
    table.add_row("Status", f"{_status(job)}, {job['progress']:.0f} %")
    if job["error_message"]:
        table.add_row("Reason", escape(_reason(job)))
    table.add_row("Attempts", str(job["attempts"]))
    table.add_row("Priority", str(job["priority"]))
    if job["batch_id"]:
        table.add_row("Batch", job["batch_id"])
    for title in ("created", "started", "completed"):
        if job[f"{title}_at"]:
            table.add_row(
                "Ended" if title == "completed" else title.title(), _at(job[f"{title}_at"])
            )
    for title, value in (("Parameters", job["params"]), ("Result", job["task_output"])):
        if value:
            table.add_row(title, escape(json.dumps(value, indent=2)))
    return table


def how_it_ended(job: Job) -> str:
    """Say in a sentence how a job ended, and what may be done about a failure."""
    if job["status"] == "completed":
        elapsed_s = (job["completed_at"] - job["created_at"]) / 1000
        return f"{job['job_id']} completed after {elapsed_s:.1f} s"
    again = f"; try again with: cl-serve jobs retry {job['job_id']}" if job["dead_letter"] else ""
    return f"{job['job_id']} failed: {_reason(job)}{again}"


def transfer_bars(console: Console) -> Progress:
    """Make bars for files on their way."""
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=_BAR_CHARACTERS),
        DownloadColumn(),
        TransferSpeedColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )


def follow(console: Console, changes: Iterable[Job]) -> Job:
    """Show a job until it has ended; return it."""
    bars = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=_BAR_CHARACTERS),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )
    job: Job = {}
    said: tuple[str, int] | None = None
    with bars:
        bar = bars.add_task("", total=100)
        for job in changes:
            status = job["status"].replace("_", " ")
            bars.update(bar, description=f"{job['task_type']} {status}", completed=job["progress"])
            step = (status, job["progress"] // _STEP_PERCENT)
            if step != said and not console.is_terminal and not job["completed_at"]:
                say(console, f"{job['job_id']} {status}, {job['progress']:.0f} %")
            said = step
    say(console, how_it_ended(job))
    return job


def waiting(console: Console) -> Callable[[str], None]:
    """Make what says now and then why the service is waited for."""
    said_at_s = float("-inf")

    def tell(reason: str) -> None:
        nonlocal said_at_s
        if time.monotonic() - said_at_s >= LINE_EVERY_S:
            said_at_s = time.monotonic()
            say(console, f"Waiting for the service: {reason}")

    return tell


def _status(job: Job) -> str:
    word = job["status"].replace("_", " ")
    word += ", given up" if job["dead_letter"] else ""
    return f"[{_STYLES.get(job['status'], 'default')}]{word}[/]"


def _reason(job: Job) -> str:
    if not job["error_message"]:
        return ""
    return f"{shown(job['error_message'])} ({job['error_kind']})"


def _at(time_ms: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time_ms / 1000))
