"""One real stack for most end-to-end tests: Ray, HAProxy and the graph of config/serve.yaml."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from deployments.runtime.models import ModelStore
from deployments.runtime.types import Media
from serve_app.config import ServeFile, load_file
from serve_app.handles import Client, connect
from serve_app.settings import config_folder
from serve_app.stack import RunningStack, Stack
from serve_app.stack.ports import free_ports
from serve_app.stack.processes import listener_on
from tests.mosquitto import mosquitto
from tests.stand_in_graph import on_stand_ins


def on_free_port(name: str) -> ServeFile:
    """Read a shipped file and give it a free port and no network."""
    file = load_file(config_folder() / name)
    return file.with_overrides(port=free_ports(1)[0], offline=True)


@contextmanager
def started(file: ServeFile, folder: Path) -> Iterator[Stack]:
    """Run a stack; when it has ended, no process and no listener of it may be left."""
    stack = Stack(folder)
    file = file.with_overrides(port=None, offline=None, jobs_folder=str(folder / "jobs"))
    state = stack.up(file, print)
    yield stack
    assert stack.down() > 0
    assert state.mark.processes() == []
    assert listener_on(file.http_port) is None


@pytest.fixture(scope="session")
def allowed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the folder below which requests may name files."""
    return tmp_path_factory.mktemp("allowed")


@pytest.fixture(scope="session")
def serve_file(allowed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServeFile]:
    """Give the default file, on a free port, with stand-ins for what can't be fetched."""
    file = on_free_port("serve.yaml")
    args = file.raw["applications"][0]["args"]
    args["files"] = {"readable_folders": [str(allowed)]}
    args["outputs"] = {"folder": str(tmp_path_factory.mktemp("outputs"))}
    args["jobs"] = {"folder": str(tmp_path_factory.mktemp("jobs"))}
    with mosquitto(tmp_path_factory.mktemp("broker")) as port:
        args["events"] = {"mqtt": {"host": "127.0.0.1", "port": port}}
        yield on_stand_ins(file, tmp_path_factory.mktemp("stand-ins"))


@pytest.fixture(scope="session")
def stack(
    store: ModelStore,
    serve_file: ServeFile,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Stack]:
    """Start the stack once; at the end no process and no listener of it may be left."""
    del store  # installs the models
    # The default folder below $XDG_STATE_HOME, so that examples find it as they stand.
    with started(serve_file, tmp_path_factory.mktemp("state") / "cl-ml-serve") as stack:
        yield stack


@pytest.fixture(scope="session")
def running(stack: Stack) -> RunningStack:
    """Tell where the stack listens."""
    running = stack.running()
    assert running is not None
    return running


@pytest.fixture(scope="session")
def http(running: RunningStack) -> Iterator[httpx2.Client]:
    """Give an HTTP client of the stack."""
    with httpx2.Client(base_url=running.url, timeout=60) as client:
        yield client


@pytest.fixture(scope="session")
def handles(stack: Stack) -> Iterator[Client]:
    """Give a handle client of the stack."""
    import ray  # noqa: PLC0415 - only where a cluster runs

    yield connect(stack)
    ray.shutdown()


@pytest.fixture
def read(photo: Callable[[str], Media]) -> Callable[[str], bytes]:
    """Read a test photograph by name."""
    return lambda name: photo(name).data
