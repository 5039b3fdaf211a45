"""The ``jobs`` group of the command line; imports neither Ray nor models, so it starts fast."""

import functools
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from serve_app.cli.analyze.display import say
from serve_app.cli.analyze.files import shown
from serve_app.cli.jobs.display import follow, job_details, job_table, transfer_bars, waiting
from serve_app.cli.jobs.fetching import fetch_file
from serve_app.cli.jobs.service import JobService, errors_explained
from serve_app.cli.this_machine import url_of_this_machine
from serve_app.jobs.job import DEFAULT_PRIORITY, INPUT, MAX_PRIORITY

_PIPED_CHARACTERS = 250
"""Width of a table that goes to a program, which looks for one job on one line."""

_ids = click.argument("job_ids", nargs=-1, required=True, metavar="ID...")
_id = click.argument("job_id", metavar="ID")


def _on_service(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the service that its options name, and a console."""

    @click.option("--url", help="The service.  [default: the stack of this machine]")
    @click.option(
        "--state",
        type=click.Path(file_okay=False, path_type=Path),
        help="Folder that keeps the state of the stack; another folder is another stack.",
    )
    @functools.wraps(command)
    def on_service(*, url: str | None, state: Path | None, **options: Any) -> None:  # noqa: ANN401 - the command's own
        console = Console()
        with (
            errors_explained(),
            JobService(url or url_of_this_machine(state), waiting(console)) as service,
        ):
            command(service, console, **options)

    return on_service


def _pairs(
    context: click.Context,
    option: click.Parameter,
    given: tuple[str, ...],
) -> list[tuple[str, str]]:
    del context, option
    pairs = [part.partition("=") for part in given]
    for name, equals, value in pairs:
        if not (name and equals):
            raise click.BadParameter(f"{name}{equals}{value} is not like name=value")
    return [(name, value) for name, _, value in pairs]


@click.group()
def jobs() -> None:
    """Have work done that outlives this command, the service and a power cut.

    A job is queued, done when its turn comes, and kept with its files, by default for a week.

    \b
    From a file to its result:
        cl-serve jobs submit hls_streaming holiday.mp4 --watch
        cl-serve jobs fetch ID --to holiday
    What there is:
        cl-serve jobs list --status failed
        cl-serve jobs show ID
    """  # noqa: D301 - click's \b keeps the lines as they are


@jobs.command()
@click.argument("task")
@click.argument(
    "files",
    nargs=-1,
    metavar="[FILE]...",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
)
@click.option(
    "--param",
    "params",
    multiple=True,
    metavar="NAME=VALUE",
    callback=_pairs,
    help="A parameter of the task; may be repeated.",
)
@click.option(
    "--priority",
    type=click.IntRange(0, MAX_PRIORITY),
    default=DEFAULT_PRIORITY,
    show_default=True,
    help="0 is the most urgent.",
)
@click.option("--watch", "watched", is_flag=True, help="Stay until all jobs have ended.")
@_on_service
def submit(  # noqa: PLR0913, PLR0917 - one for each option
    service: JobService,
    console: Console,
    task: str,
    files: Sequence[Path],
    params: list[tuple[str, str]],
    priority: int,
    *,
    watched: bool,
) -> None:
    """Queue a job for each FILE and print its id.

    TASK is a node of the graph, or `analyze` for several at once. With --watch the exit code is 1
    when a job failed.

    \b
    Examples:
        cl-serve jobs submit hls_streaming holiday.mp4 --watch
        cl-serve jobs submit image_conversion *.png --param format=webp --param quality=80
        cl-serve jobs submit analyze photo.jpg --param outputs=exif,face_embedding
        cl-serve jobs submit clip_text_embedding --param text='a red car'
    """  # noqa: D301 - click's \b keeps the lines as they are
    fields = [("priority", str(priority)), *params]
    job_ids: list[str] = []
    for path in files:
        with (
            transfer_bars(console) as bars,
            bars.open(path, "rb", description=shown(path.name)) as content,
        ):
            job_ids.append(service.submit(task, fields, (path.name, content)))
        say(console, f"{job_ids[-1]}  {shown(str(path))}")
    if not files:
        job_ids.append(service.submit(task, fields, None))
        say(console, job_ids[-1])
    if watched:
        _follow_all(service, console, job_ids)


@jobs.command("list")
@click.option("--status", type=click.Choice(["queued", "in_progress", "completed", "failed"]))
@click.option("--task", help="Only jobs of this task.")
@click.option(
    "--dead-letter",
    is_flag=True,
    help="Only jobs that were given up after as many tries as the YAML allows.",
)
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="The newest.")
@_on_service
def list_jobs(  # noqa: PLR0913 - one for each option
    service: JobService,
    console: Console,
    *,
    status: str | None,
    task: str | None,
    dead_letter: bool,
    limit: int,
) -> None:
    """List jobs, newest first."""
    given = {"status": status, "task": task, "dead_letter": "true" if dead_letter else None}
    wanted = {name: value for name, value in given.items() if value}
    found, total = service.list(wanted, limit)
    if not found:
        say(console, "There are no such jobs." if wanted else "There are no jobs.")
        return
    if not console.is_terminal:
        console.width = _PIPED_CHARACTERS
    console.print(job_table(found))
    if total > len(found):
        say(console, f"{len(found)} of {total}; --limit shows more.")


@jobs.command()
@_id
@click.option("--json", "as_json", is_flag=True, help="For programs: the job as one object.")
@_on_service
def show(service: JobService, console: Console, job_id: str, *, as_json: bool) -> None:
    """Show a job: what it was to do, how far it is, what it gave or why it failed."""
    job = service.get(job_id)
    if as_json:
        click.echo(json.dumps(job, indent=2))
    else:
        console.print(job_details(job))


@jobs.command()
@_ids
@_on_service
def watch(service: JobService, console: Console, job_ids: Sequence[str]) -> None:
    """Show the progress of jobs until they have ended.

    Goes on when the service restarts. The exit code is 1 when one failed.
    """
    _follow_all(service, console, job_ids)


@jobs.command()
@_ids
@_on_service
def cancel(service: JobService, console: Console, job_ids: Sequence[str]) -> None:
    """End jobs that wait or are in work; those that have ended stay as they are."""
    _each(console, job_ids, lambda job_id: f"is {service.cancel(job_id)['status']}")


@jobs.command()
@click.argument("job_ids", nargs=-1, metavar="[ID]...")
@click.option("--dead-letter", is_flag=True, help="All jobs that were given up.")
@_on_service
def retry(
    service: JobService, console: Console, job_ids: Sequence[str], *, dead_letter: bool
) -> None:
    """Queue failed jobs again."""
    if bool(job_ids) == dead_letter:
        raise click.UsageError("name jobs, or --dead-letter for all that were given up")
    if dead_letter:
        job_ids = [job["job_id"] for job in service.all({"dead_letter": "true"})]
    _each(console, job_ids, lambda job_id: f"is {service.retry(job_id)['status']}")
    if not job_ids:
        say(console, "No job was given up.")


@jobs.command()
@_id
@click.option(
    "--to",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where to.  [default: a new folder, named as the job]",
)
@_on_service
def fetch(service: JobService, console: Console, job_id: str, folder: Path | None) -> None:
    """Fetch all files of a job's result, but not what was sent.

    A file appears when it is whole; files of the same names are replaced.
    """
    job = service.get(job_id)
    if job["status"] != "completed":
        raise click.ClickException(
            f"job {job_id} is {job['status'].replace('_', ' ')}, and only a completed one has a "
            f"result. How it stands: cl-serve jobs show {job_id}",
        )
    folder = folder or Path(job["job_id"])
    files = [file for file in service.files(job_id) if not file[0].startswith(f"{INPUT}/")]
    for file in files:
        say(console, shown(str(fetch_file(service, console, job_id, file, folder))))
    if not files:
        say(console, f"Its result has no files; cl-serve jobs show {job_id} shows it.")


@jobs.command("rm")
@_ids
@_on_service
def remove(service: JobService, console: Console, job_ids: Sequence[str]) -> None:
    """Forget jobs and remove their files; those in work are ended."""

    def forget(job_id: str) -> str:
        service.remove(job_id)
        return "is removed"

    _each(console, job_ids, forget)


def _follow_all(service: JobService, console: Console, job_ids: Iterable[str]) -> None:
    ended = [follow(console, service.watch(job_id)) for job_id in job_ids]
    failed = any(job["status"] == "failed" for job in ended)
    click.get_current_context().exit(int(failed))


def _each(console: Console, job_ids: Iterable[str], act: Callable[[str], str]) -> None:
    """Do the same to several jobs; one that fails does not keep the others from it."""
    failed = False
    for job_id in job_ids:
        try:
            say(console, f"{job_id} {act(job_id)}")
        except click.ClickException as error:
            failed = True
            say(console, f"{shown(job_id)}: {error.message}")
    if failed:
        click.get_current_context().exit(1)
