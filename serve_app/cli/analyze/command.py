"""``cl-serve analyze``: the command itself, from its options to its exit code."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import httpx2
from rich.console import Console

from serve_app.cli.analyze.contract import TIMEOUT_S, Contract, Request
from serve_app.cli.analyze.display import Display, list_failures, say
from serve_app.cli.analyze.files import find
from serve_app.cli.analyze.plan import Plan, make_plan
from serve_app.cli.analyze.results import JsonLinesResults, ParquetResults, locked
from serve_app.cli.analyze.run import Run, Stopped
from serve_app.cli.analyze.service import Patience, Service
from serve_app.cli.this_machine import url_of_this_machine

PATIENCE = Patience()

MAX_DEFAULT_CONCURRENCY = 8
"""More than that fills no batch better, and would only make other clients wait."""


def _out(context: click.Context, option: click.Parameter, path: Path) -> Path:
    del context, option
    if path.suffix not in (".jsonl", ".parquet"):
        raise click.BadParameter(f"{path} ends in neither .jsonl nor .parquet")
    if not path.parent.is_dir():
        raise click.BadParameter(f"there is no folder {path.parent}")
    return path.resolve()


def _names(context: click.Context, option: click.Parameter, given: tuple[str, ...]) -> list[str]:
    del context, option
    return [name for part in given for name in part.split(",") if name]


def _params(
    context: click.Context,
    option: click.Parameter,
    given: tuple[str, ...],
) -> list[tuple[str, str]]:
    del context, option
    pairs = [part.partition("=") for part in given]
    for name, equals, value in pairs:
        if "." not in name or not equals:
            raise click.BadParameter(f"{name}{equals}{value} is not like node.param=value")
    return [(name, value) for name, _, value in pairs]


@click.command()
@click.argument(
    "paths",
    nargs=-1,
    required=True,
    metavar="FILE|FOLDER...",
    type=click.Path(exists=True, readable=False, path_type=Path),
)
@click.option(
    "--outputs",
    multiple=True,
    required=True,
    metavar="A,B,...",
    callback=_names,
    help="What to compute: nodes of the graph. The service lists them at /v1/capabilities.",
)
@click.option(
    "--out",
    required=True,
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    callback=_out,
    help="Where results are kept: FILE.jsonl or FILE.parquet.",
)
@click.option(
    "--param",
    "params",
    multiple=True,
    metavar="NODE.PARAM=VALUE",
    callback=_params,
    help="A parameter of a node; may be repeated.",
)
@click.option("--url", help="The service.  [default: the stack of this machine]")
@click.option(
    "--state",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder that keeps the state of the stack; another folder is another stack.",
)
@click.option(
    "--concurrency",
    type=click.IntRange(1, 64),
    default=lambda: min(MAX_DEFAULT_CONCURRENCY, 2 * len(os.sched_getaffinity(0))),
    help="Files in work at once.  [default: two for each core, at most 8]",
)
@click.option("--retry-failed", is_flag=True, help="Send files again that failed by themselves.")
@click.pass_context
def analyze(  # noqa: PLR0913 - one for each option
    context: click.Context,
    *,
    paths: tuple[Path, ...],
    outputs: list[str],
    out: Path,
    params: list[tuple[str, str]],
    url: str | None,
    state: Path | None,
    concurrency: int,
    retry_failed: bool,
) -> None:
    """Send photos and videos to the running graph and keep what it finds in one file.

    Folders are searched with all that is below, for photos and videos; hidden files are left out.
    A file that is named is sent whatever it is.

    \b
    Examples:
        cl-serve analyze ~/Pictures --outputs face_embedding,exif --out faces.jsonl
        cl-serve analyze *.jpg --outputs dino_embedding --out photos.parquet
        cl-serve analyze ~/Pictures --outputs hash --out hashes.jsonl \\
            --param hash.algorithm=md5 --url http://192.168.1.20:8000

    Run the same command again after anything that ended it, or when files came: what is done is
    not sent again. Files that have changed are, and those that failed for a reason of the
    service. Other outputs or parameters need another file.

    \b
    For each file the result has one line, or one row, with the same fields:
        path, size_bytes, modified_at   which file, and which version of it
        request                         outputs and parameters, as a query
        outputs                         result by output
        problems                        problem by output that failed
        problem                         the one problem when all failed

    While a Parquet file is not complete, its results are in FILE.parquet.partial.jsonl.

    The exit code is 0 when all is done, 1 when a file failed or the service stayed away, 2 for a
    wrong command, 130 after Ctrl-C, 143 after SIGTERM.
    """  # noqa: D301 - click's \b keeps the lines as they are
    console = Console()
    request = Request(tuple(outputs), tuple(params))
    with _errors_explained(), locked(out):
        base_url = url or url_of_this_machine(state)
        # With a transport of its own a client takes no proxy from the environment: a service is
        # on this machine or on its network.
        transport = httpx2.HTTPTransport()
        with httpx2.Client(base_url=base_url, timeout=TIMEOUT_S, transport=transport) as client:
            contract = Contract(client)
            nodes = contract.agree(request)
            results = _results(out, request, contract)
        with console.status("Looking for files"):
            plan = make_plan(find(paths), results.kept, retry_failed=retry_failed)
        results.open(without=[version.path for _, version in plan.to_send])
        with Display(console, len(plan.to_send)) as display:
            service = Service(base_url, request.query, nodes, PATIENCE, display.wait)
            stopped = Run(service, results, display).send(plan.to_send, concurrency)
        results.finish()
        _summarise(console, plan, display, out)
    failed = bool(display.failures or plan.failures)
    context.exit(_end(console, stopped, out) or int(failed))


def _results(out: Path, request: Request, contract: Contract) -> JsonLinesResults:
    if out.suffix == ".jsonl":
        return JsonLinesResults(out, request.query)
    from serve_app.cli.analyze.results.columns import row_column  # noqa: PLC0415 - loads Arrow

    schemas, definitions = contract.schemas()
    wanted = {name: schemas[name] for name in sorted(set(request.outputs))}
    return ParquetResults(out, request.query, row_column(wanted, definitions))


def _summarise(console: Console, plan: Plan, display: Display, out: Path) -> None:
    list_failures(console, [*plan.failures, *display.failures], str(out))
    say(
        console,
        f"Done: {display.done} ({display.per_second:.1f} per second), failed: "
        f"{len(display.failures)}, done before: {plan.done_before}. Results: {out}",
    )
    if plan.failures:
        say(
            console,
            f"Failed before or can't be looked at: {len(plan.failures)}; --retry-failed sends "
            "what failed before again.",
        )
    if plan.others:
        say(
            console,
            f"Left out of the folders: {plan.others}; only photos and videos are sent from there.",
        )


def _end(console: Console, stopped: Stopped | None, out: Path) -> int:
    """Say why a run ended early, if it did; return the exit code for that."""
    if stopped is None:
        return 0
    how = f"What is done is kept in {out}; the same command goes on."
    if isinstance(stopped, click.ClickException):
        raise click.ClickException(f"{stopped.message}\n{how}") from stopped
    say(console, f"Interrupted. {how}")
    return 128 + stopped


@contextmanager
def _errors_explained() -> Iterator[None]:
    """Show what the system refuses as a sentence, without a traceback."""
    try:
        yield
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise click.ClickException(f"{where}{error.strerror or error}") from error
    except httpx2.InvalidURL as error:
        raise click.BadParameter(str(error), param_hint="--url") from error
