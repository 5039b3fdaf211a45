"""``cl-serve deploy``, ``diff`` and ``rollback``: changing what runs while it serves."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from serve_app import redeploy
from serve_app.app import check_graph
from serve_app.cli.stack import install, state_option
from serve_app.config import ServeFile, load_file
from serve_app.redeploy import Change, Effect, compare, running_file
from serve_app.stack import Progress, Stack
from serve_app.stores import open_models

_STYLE = {Effect.NEW: "green", Effect.REMOVED: "red", Effect.ROLLING: "yellow", Effect.LIVE: "cyan"}

_file_argument = click.argument(
    "file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
)


@click.command()
@_file_argument
@click.option(
    "--no-trial",
    is_flag=True,
    help="Do not start a trial replica of what changed first: saves its memory, and its warning.",
)
@state_option
def deploy(*, file: Path, no_trial: bool, state: Path | None) -> None:
    """Make FILE what runs, without a failed request.

    Shows what changes, fetches models, tries out what would start anew, and then replaces
    replicas a few at a time. Where the new version does not start, the old one serves on and the
    message says why. `cl-serve rollback` undoes a deploy.
    """
    console = Console()
    stack = Stack(state)
    new = _read(stack, file)
    changes = compare(running_file(stack), new)
    show_changes(changes, console)
    if not changes:
        return
    store = open_models(new.args.models)
    install(store, check_graph(new, store), console)
    began_s = time.monotonic()
    with _progress(console) as progress:
        done = redeploy.deploy(stack, new, progress, trial=not no_trial)
    for warning in done.warnings:
        console.print(f"[yellow]{escape(warning)}[/]", soft_wrap=True)
    console.print(f"Deployed after {time.monotonic() - began_s:.0f} s.")


@click.command()
@_file_argument
@state_option
def diff(file: Path, state: Path | None) -> None:
    """Show what `cl-serve deploy FILE` would change, and change nothing."""
    stack = Stack(state)
    new = _read(stack, file)
    check_graph(new, open_models(new.args.models))
    show_changes(compare(running_file(stack), new), Console())


@click.command()
@state_option
def rollback(state: Path | None) -> None:
    """Go back to the configuration before the present one, or end a deploy that broke off.

    Done twice, it goes back twice; the last ten healthy configurations are kept.
    """
    console = Console()
    stack = Stack(state)
    began_s = time.monotonic()
    with _progress(console) as progress:
        revision = redeploy.rollback(stack, progress)
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(revision.applied_at_s))
    console.print(
        f"Back at configuration {revision.number} ({revision.path}, deployed {at}) after "
        f"{time.monotonic() - began_s:.0f} s.",
        soft_wrap=True,
    )


def show_changes(changes: Sequence[Change], console: Console) -> None:
    """Show a table of what changes: deployment, what becomes of it, and through which keys."""
    if not changes:
        console.print("Nothing changes.")
        return
    table = Table(box=None, pad_edge=False, show_header=False)
    for change in changes:
        table.add_row(
            change.deployment,
            f"[{_STYLE[change.effect]}]{change.effect}[/]",
            escape("\n".join(change.keys)),
        )
    console.print(table)


def _read(stack: Stack, path: Path) -> ServeFile:
    """Read a file; what `cl-serve up` was told differently on its command line holds on."""
    return load_file(path).with_overrides(**stack.require_running().overrides)


@contextmanager
def _progress(console: Console) -> Iterator[Progress]:
    """Show the present step on a terminal; elsewhere, each new step is a line."""
    if console.is_terminal:
        with console.status("Deploying") as status:
            yield lambda step: status.update(f"{step} …")
        return
    said: list[str] = []

    def say(step: str) -> None:
        if said[-1:] != [step]:
            said.append(step)
            console.print(step, soft_wrap=True, highlight=False)

    yield say
