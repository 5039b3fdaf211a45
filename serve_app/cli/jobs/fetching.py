"""Files of a job's result on their way into a folder."""

from pathlib import Path, PurePosixPath

import click
from rich.console import Console

from deployments.runtime.atomic import atomic_write
from serve_app.cli.analyze.files import shown
from serve_app.cli.jobs.display import transfer_bars
from serve_app.cli.jobs.service import JobService


def fetch_file(
    service: JobService,
    console: Console,
    job_id: str,
    file: tuple[str, int],
    folder: Path,
) -> Path:
    """Fetch a file of a job's result, which appears when it is whole; return where it is.

    Args:
        service: where to fetch it from.
        console: where to show a bar.
        job_id: the job.
        file: its path in the result, and its size in bytes.
        folder: below which it goes under its path.

    Raises:
        ClickException: its path leads out of the folder, or its size is another one.

    """
    path, size_bytes = file
    parts = PurePosixPath(path).parts
    if not parts or parts[0] == "/" or ".." in parts:
        raise click.ClickException(f"the service names a file outside of its folder: {path!r}")
    destination = folder.joinpath(*parts)
    destination.parent.mkdir(parents=True, exist_ok=True)
    with transfer_bars(console) as bars, atomic_write(destination) as into:
        bar = bars.add_task(shown(path), total=size_bytes)
        service.download(job_id, path, into, lambda done: bars.update(bar, completed=done))
        if into.tell() != size_bytes:
            raise click.ClickException(
                f"{shown(path)} has {into.tell()} bytes in place of {size_bytes}; fetch it again",
            )
    return destination
