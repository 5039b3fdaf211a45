"""``cl-serve up`` and ``cl-serve down``."""

import json
import time
from importlib.resources import files
from pathlib import Path

import click
import httpx2
from rich.console import Console

from deployments.runtime.errors import ModelError, ModelNotInstalledError
from deployments.runtime.models import ModelStore
from serve_app.app import build_graph
from serve_app.cli.models import pull_with_progress
from serve_app.config import load_file
from serve_app.graph import INGRESS
from serve_app.settings import config_folder
from serve_app.stack import RunningStack, Stack
from serve_app.stores import open_models

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
@state_option
def up(config: Path | None, port: int | None, offline: bool, state: Path | None) -> None:  # noqa: FBT001 - click's flag
    """Start the graph on this machine and show what it finds in a sample photo.

    Fetches the models that the graph needs and that need no consent, starts Ray with the tuned
    runtime, deploys the YAML file and waits until every node has answered a self-test. Returns
    when all is ready; the graph goes on in the background until `cl-serve down`.
    """
    console = Console()
    stack = Stack(state)
    running = stack.running()
    if running is not None:
        console.print(f"Already running at [bold]{running.url}[/] ({running.config}).")
        console.print("To start it anew: cl-serve down, then cl-serve up.")
        return
    file = load_file(config or config_folder() / "serve.yaml")
    file = file.with_overrides(port=port, offline=offline or None)
    store = open_models(file.args.models)
    graph = build_graph(file.args, store)
    file.check_deployments({INGRESS: (), **graph.hosts})
    wanted = {node.model for node in graph.values() if node.model is not None}
    _install(store, sorted(wanted), console)
    with console.status("Starting") as status:
        began_s = time.monotonic()

        def progress(step: str) -> None:
            status.update(f"{step} …")

        running = stack.up(file, progress)
    console.print(f"Ready after {time.monotonic() - began_s:.0f} s.")
    _show_sample(running, console)


@click.command()
@state_option
def down(state: Path | None) -> None:
    """End everything that `cl-serve up` started on this machine, and nothing else."""
    ended = Stack(state).down()
    click.echo(f"Stopped ({ended} processes)." if ended else "Nothing is running.")


def _install(store: ModelStore, names: list[str], console: Console) -> None:
    """Fetch the models that are missing; those that need consent are named and left out."""
    missing: list[str] = []
    for name in names:
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


def _show_sample(running: RunningStack, console: Console) -> None:
    photo = files("serve_app.cli").joinpath("sample.jpg").read_bytes()
    url = f"{running.url}/v1/face_embedding"
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
    console.print(
        f"\nThe graph runs at [bold]{running.url}[/], its API is shown at {running.url}/docs"
    )
    console.print("Try it:")
    console.print(f"  curl -F file=@photo.jpg {url}", soft_wrap=True, highlight=False)
