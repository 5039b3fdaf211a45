"""One real stack for all end-to-end tests: Ray, HAProxy and the graph of config/serve.yaml."""

from collections.abc import Callable, Iterator

import httpx2
import pytest

from deployments.runtime.models import ModelStore
from deployments.runtime.types import Media
from serve_app.config import ServeFile, load_file
from serve_app.handles import Client, connect
from serve_app.settings import config_folder
from serve_app.stack import RunningStack, Stack
from serve_app.stack.processes import listener_on
from serve_app.stack.ray_runtime import free_ports


@pytest.fixture(scope="session")
def serve_file() -> ServeFile:
    """Give the shipped file, on a free port."""
    file = load_file(config_folder() / "serve.yaml")
    return file.with_overrides(port=free_ports().gcs, offline=True)


@pytest.fixture(scope="session")
def stack(
    store: ModelStore,
    serve_file: ServeFile,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Stack]:
    """Start the stack once; at the end no process and no listener of it may be left."""
    del store  # installs the models
    # The default folder below $XDG_STATE_HOME, so that examples find it as they stand.
    stack = Stack(tmp_path_factory.mktemp("state") / "cl-ml-serve")
    state = stack.up(serve_file, print)
    yield stack
    assert stack.down() > 0
    assert state.mark.processes() == []
    assert listener_on(serve_file.http_port) is None


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
