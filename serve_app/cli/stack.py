"""``cl-serve up`` and ``cl-serve down``."""

import json
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import click
import httpx2
from rich.console import Console
from rich.markup import escape

from deployments.runtime.errors import ModelError, ModelNotInstalledError, StackError
from deployments.runtime.models import ModelStatus, ModelStore, base_name
from serve_app.app import check_graph
from serve_app.cli.models import pull_with_progress
from serve_app.config import ServeFile, load_file
from serve_app.graph import Graph
from serve_app.settings import config_folder
from serve_app.stack import RunningStack, Stack
from serve_app.stack.keep_alive import keep_alive
from serve_app.stack.steps import Steps
from serve_app.stack.supervisor import SupervisedStack, start_supervisor
from serve_app.stores import open_models

SAMPLE_NODE = "face_embedding"
SAMPLE_TIMEOUT_S = 60.0

state_option = click.option(
    "--state",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder that keeps the state of the stack; another folder is another stack.",
)


@click.command()
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The YAML file of the graph; by default config/serve.yaml.",
)
@click.option("--port", type=click.IntRange(1, 65535), help="HTTP port, instead of the file's.")
@click.option("--offline", is_flag=True, help="Never touch the network; models must be installed.")
@click.option(
    "--last",
    is_flag=True,
    help="Start what was deployed last, where something was; else what --config names.",
)
@click.option(
    "--foreground",
    is_flag=True,
    help="Stay, and end the graph when this command is ended: for systemd and containers.",
)
@click.option("-v", "--verbose", is_flag=True, help="Show how long each step took.")
@state_option
def up(  # noqa: PLR0913 - one for each option
    *,
    config: Path | None,
    port: int | None,
    offline: bool,
    last: bool,
    foreground: bool,
    verbose: bool,
    state: Path | None,
) -> None:
    """Start the graph on this machine and show what it finds in a sample photo.

    Fetches the models that the graph needs and that need no consent, starts Ray with the tuned
    runtime, deploys the YAML file and waits until every node has answered a self-test. Returns
    when all is ready; the graph goes on in the background until `cl-serve down`, and a supervisor
    starts it again should Ray die.

    To change what runs, edit the file and `cl-serve deploy` it.
    """
    console = Console()
    stack = Stack(state)
    running = stack.running()
    if running is not None and foreground:
        raise StackError(
            f"already running at {running.url}; `cl-serve down` ends it, so that this command can "
            "start and watch it",
        )
    if running is not None:
        console.print(f"Already running at [bold]{running.url}[/] ({running.config}).")
        console.print("To change it: cl-serve deploy FILE. To end it: cl-serve down.")
        return
    overrides: dict[str, Any] = {"port": port, "offline": offline or None}
    if state is not None:  # another stack, other jobs
        overrides["jobs_folder"] = str(stack.folder.resolve() / "jobs")
    file = _file(stack, config, last=last).with_overrides(**overrides)
    store = open_models(file.args.models)
    graph = check_graph(file, store)
    install(store, graph, console)
    with ended_by_sigterm(), console.status("Starting") as status:
        steps = Steps(lambda step: status.update(f"{step} …"))
        running = stack.up(file, steps, overrides)
    taken_s = steps.taken_s()
    if verbose:
        for step, step_s in taken_s.items():
            console.print(f"  {step}: {step_s:.1f} s", highlight=False)
    console.print(f"Ready after {sum(taken_s.values()):.0f} s.")
    if foreground:
        _stay(stack, running, console)
        return
    start_supervisor(stack, running)
    console.print(
        f"The graph runs at [bold]{running.url}[/], its API is shown at {running.url}/docs"
    )
    if SAMPLE_NODE in graph:
        _show_sample(running, console)


def _file(stack: Stack, config: Path | None, *, last: bool) -> ServeFile:
    """Choose what to start."""
    revision = stack.history.latest() if last else None
    if revision is not None:
        return ServeFile(revision.document, Path(revision.path))
    return load_file(config or config_folder() / "serve.yaml")


def _stay(stack: Stack, running: RunningStack, console: Console) -> None:
    """Supervise a stack until it is ended from elsewhere, or this process is."""
    console.print(f"The graph runs at [bold]{running.url}[/]; it ends with this command.")
    try:
        with ended_by_sigterm():
            keep_alive(SupervisedStack(stack, running), console.print)
    finally:
        stack.down()


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end what runs as Ctrl-C does, so that it cleans up."""

    def interrupt(signal_number: int, frame: object) -> None:
        del signal_number, frame
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@click.command()
@state_option
def down(state: Path | None) -> None:
    """End everything that `cl-serve up` started on this machine, and nothing else."""
    ended = Stack(state).down()
    click.echo(f"Stopped ({ended} processes)." if ended else "Nothing is running.")


def install(store: ModelStore, graph: Graph, console: Console) -> None:
    """Fetch a graph's models that are missing; those that need consent are named and left out.

    So are variants that have to be made.
    """
    names = sorted({node.model for node in graph.values() if node.model is not None})
    missing: list[str] = []
    for name in sorted({base_name(name) for name in names}):
        try:
            store.path(name)
        except ModelNotInstalledError:
            missing.append(name)
    free = [name for name in missing if store.catalogue[name].licence.commercial_use]
    if unfree := [name for name in missing if name not in free]:
        licences = {store.catalogue[name].licence.id for name in unfree}
        console.print(
            f"{', '.join(unfree)}: not installed, as the licence ({', '.join(sorted(licences))}) "
            "forbids commercial use and needs your consent. What needs them answers 503 until then:"
        )
        command = f"  cl-serve models pull {' '.join(unfree)} --accept-licence"
        console.print(command, soft_wrap=True, highlight=False)
    if free and not store.offline:
        results = pull_with_progress(store, free, accept_licence=False)
        failed = [name for name, result in results.items() if isinstance(result, ModelError)]
        if failed:
            console.print(
                "What could not be fetched is left out: what needs it answers 503 until it is "
                "there. Try again at any time, no restart is needed:"
            )
            console.print(f"  cl-serve models pull {' '.join(failed)}", highlight=False)
    elif free:
        console.print(f"Not installed, and the network is switched off: {', '.join(free)}.")
    for name in names:
        base = base_name(name)
        if name != base and store.status(base) is ModelStatus.INSTALLED:
            try:
                store.path(name, allow_unvalidated=True)
            except ModelError as error:
                text = escape(f"{error}. What needs it answers 503 until then.")
                console.print(text, soft_wrap=True, highlight=False)


def _show_sample(running: RunningStack, console: Console) -> None:
    photo = files("serve_app.cli").joinpath("sample.jpg").read_bytes()
    url = f"{running.url}/v1/{SAMPLE_NODE}"
    with httpx2.Client(timeout=SAMPLE_TIMEOUT_S) as client:
        began_s = time.perf_counter()
        answer = client.post(url, content=photo)
        elapsed_ms = (time.perf_counter() - began_s) * 1000
    body = answer.json()
    if answer.is_error:
        console.print(f"The sample photo failed: {json.dumps(body)}")
    else:
        faces = body["faces"]
        console.print(f"A sample photo has {len(faces)} face(s), found in {elapsed_ms:.0f} ms:")
        for face in faces:
            console.print(
                f"  confidence {face['confidence']:.2f}, quality {face['quality']['score']:.2f}, "
                f"embedding of {len(face['embedding'])} numbers",
            )
    console.print("Try it:")
    console.print(f"  curl -F file=@photo.jpg {url}", soft_wrap=True, highlight=False)
