"""The ``models`` group of the command line: list, pull, verify, export and import model files."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TransferSpeedColumn,
)
from rich.table import Table

from deployments.runtime.errors import ClServeError, ModelError
from deployments.runtime.models import (
    ModelEntry,
    ModelStatus,
    ModelStore,
    PullProgress,
    load_catalogue,
    quantize_command,
    split_name,
)
from serve_app.cli.variants import variants_table
from serve_app.settings import DEFAULT_CATALOGUE

_STATUS_STYLE = {
    ModelStatus.INSTALLED: "green",
    ModelStatus.NOT_INSTALLED: "dim",
    ModelStatus.CORRUPT: "bold red",
}

_accept_licence = click.option(
    "--accept-licence",
    is_flag=True,
    help="You have read and agree to the licences that permit no commercial use.",
)


@dataclass(frozen=True)
class ModelsContext:
    """The group's options; the catalogue is only read by a command that runs."""

    catalogue_path: Path
    cache: Path | None
    offline: bool

    @cached_property
    def store(self) -> ModelStore:
        """The store that the options describe. Raises ``ConfigError`` on a wrong catalogue."""
        return ModelStore(load_catalogue(self.catalogue_path), self.cache, offline=self.offline)


@click.group()
@click.option(
    "--catalogue",
    "catalogue_path",
    type=click.Path(path_type=Path, dir_okay=False),
    default=DEFAULT_CATALOGUE,
    show_default=True,
    help="The file that names all models.",
)
@click.option(
    "--cache",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where model files are kept.  [default: ~/.cache/cl-ml-serve/models]",
)
@click.option("--offline", is_flag=True, help="Never touch the network.")
@click.pass_context
def models(
    context: click.Context, catalogue_path: Path, cache: Path | None, *, offline: bool
) -> None:
    """Fetch and manage the model files of this machine.

    Weights are not part of the program: they are fetched from their publishers, checked against
    a recorded sha256 and kept in a cache folder.

    \b
    A first installation:
        cl-serve models list         see what there is, and under which licence
        cl-serve models pull         fetch the default models
    A machine without a network:
        cl-serve models export models.tar     on a machine that has them
        cl-serve models import models.tar     on the one without
    """  # noqa: D301 - click's \b keeps the lines as they are
    context.obj = ModelsContext(catalogue_path, cache, offline)


@models.command("list")
@click.pass_obj
def list_models(context: ModelsContext) -> None:
    """Show all models: whether each is installed, its size and its licence.

    Below them are the variants that `cl-serve quantize` has made: how far each agrees with its
    model in float32, how much faster and smaller it is, and whether it may be served.
    """
    with _errors_explained():
        store = context.store
        table = Table(box=SIMPLE_HEAD)
        # A name that is cut off can't be copied into the next command.
        for title in ("Name", "State", "Size"):
            table.add_column(title, no_wrap=True)
        table.add_column("Licence", overflow="fold")
        table.add_column("Default")
        for entry in store.catalogue:
            state = store.status(entry.name)
            table.add_row(
                entry.name,
                f"[{_STATUS_STYLE[state]}]{state}[/]",
                _size(entry),
                _licence(entry),
                "yes" if entry.default else "",
            )
        _console().print(table)
        reports = [r for entry in store.catalogue for r in store.variants(entry.name).reports()]
        if reports:
            _console().print(variants_table(store, reports))


@models.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@_accept_licence
@click.pass_obj
def pull(context: ModelsContext, names: tuple[str, ...], *, accept_licence: bool) -> None:
    """Fetch models: those named, or the default ones.

    What is installed already is checked and left alone; an interrupted download goes on where it
    stopped. When one model fails the others are still fetched, and the exit code is 1.

    \b
    Examples:
        cl-serve models pull
        cl-serve models pull dinov2_vits14
        cl-serve models pull mobileclip_s0_image --accept-licence
    """  # noqa: D301 - click's \b keeps the lines as they are
    with _errors_explained():
        store = context.store
        results = pull_with_progress(
            store, names or store.catalogue.default_names, accept_licence=accept_licence
        )
    failures = [result for result in results.values() if isinstance(result, ModelError)]
    if failures:
        listed = "\n".join(str(failure) for failure in failures)
        raise click.ClickException(f"{len(failures)} of {len(results)} models failed\n{listed}")


@models.command()
@click.pass_obj
def verify(context: ModelsContext) -> None:
    """Hash every installed file again and compare it with the catalogue.

    Variants are compared with their reports. The exit code is 1 when a file is corrupt;
    `cl-serve models pull NAME` replaces it, and `cl-serve quantize` a variant.
    """
    with _errors_explained():
        states = context.store.verify()
    console = _console()
    for name, state in states.items():
        console.print(f"[{_STATUS_STYLE[state]}]{state:14}[/] {name}")
    corrupt = [name for name, state in states.items() if state is ModelStatus.CORRUPT]
    if corrupt:
        pulled = [name for name in corrupt if split_name(name)[1] is None]
        remedies = [f"cl-serve models pull {' '.join(pulled)}"] if pulled else []
        remedies += [quantize_command(name) for name in corrupt if name not in pulled]
        raise click.ClickException(
            f"corrupt: {', '.join(corrupt)}; replace with: {', then '.join(remedies)}"
        )


@models.command("export")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.pass_obj
def export_models(context: ModelsContext, file: Path, names: tuple[str, ...]) -> None:
    """Write models into the tar file FILE: those named, or all that are installed.

    Variants stay: each machine makes and validates its own.
    """
    with _errors_explained():
        store = context.store
        names_here = (entry.name for entry in store.catalogue)
        installed = [n for n in names_here if store.status(n) is ModelStatus.INSTALLED]
        chosen = names or tuple(installed)
        if not chosen:
            raise click.ClickException("no model is installed; nothing to export")
        store.export(chosen, file)
    click.echo(f"{file}: {', '.join(dict.fromkeys(chosen))}")


@models.command("import")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@_accept_licence
@click.pass_obj
def import_models(context: ModelsContext, file: Path, *, accept_licence: bool) -> None:
    """Install the models of the tar file FILE, each checked against the catalogue."""
    with _errors_explained():
        names = context.store.import_(file, accept_licence=accept_licence)
    click.echo(f"installed: {', '.join(names)}")


def pull_with_progress(
    store: ModelStore,
    names: Iterable[str],
    *,
    accept_licence: bool = False,
    console: Console | None = None,
) -> dict[str, Path | ModelError]:
    """Pull models while showing a bar per model, with bytes and speed where they are known.

    Without a terminal, one line is written as each model ends.

    Returns:
        What ``ModelStore.pull_many`` returns: for each name its file or its error.

    Raises:
        UnknownModelError: one of the names is not in the catalogue; nothing is pulled.

    """
    console = console or _console()
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        DownloadColumn(),
        TransferSpeedColumn(),
        TextColumn("[dim]{task.fields[detail]}"),
    )
    with Progress(*columns, console=console, transient=True) as bars:
        results = store.pull_many(
            names, accept_licence=accept_licence, progress=_bar_reporter(bars)
        )
    for name, result in results.items():
        if isinstance(result, ModelError):
            console.print(f"[red]failed[/]  {name}")
        else:
            console.print(f"[green]ready[/]   {name}")
    return results


def _bar_reporter(bars: Progress) -> Callable[[PullProgress], None]:
    tasks: dict[str, TaskID] = {}

    def report(event: PullProgress) -> None:
        if event.name not in tasks:
            tasks[event.name] = bars.add_task(event.name, total=None, detail="")
        task = tasks[event.name]
        match event.stage:
            case "download":
                bars.update(
                    task, completed=event.done_bytes, total=event.total_bytes, detail="downloading"
                )
            case "done":
                bars.remove_task(tasks.pop(event.name))
            case _:
                bars.update(task, total=None, detail=escape(f"{event.stage}: {event.detail}"))

    return report


@contextmanager
def _errors_explained() -> Iterator[None]:
    """Show the service's own errors as one message and exit code 1, without a traceback."""
    try:
        yield
    except ClServeError as error:
        raise click.ClickException(str(error)) from error


def _console() -> Console:
    return Console()


def _size(entry: ModelEntry) -> str:
    size_bytes = entry.usable_size_bytes
    return f"{size_bytes / 1e6:.1f} MB" if size_bytes else "?"


def _licence(entry: ModelEntry) -> str:
    if entry.licence.commercial_use:
        return escape(entry.licence.id)
    return f"{escape(entry.licence.id)}\n[yellow]no commercial use[/]"
