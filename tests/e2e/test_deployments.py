"""The graph with a deployment for each model: the same answers over hops, and a lost replica."""

import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import numpy as np
import pytest

from deployments.runtime.models import ModelStore
from serve_app.stack import RunningStack
from tests.e2e.conftest import on_free_port, started

Read = Callable[[str], bytes]


@pytest.fixture(scope="module")
def spread(
    store: ModelStore,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[RunningStack]:
    """Run config/serve.deployments.yaml."""
    del store  # installs the models
    with started(on_free_port("serve.deployments.yaml"), tmp_path_factory.mktemp("state")) as stack:
        running = stack.running()
        assert running is not None
        yield running


def test_same_answer_over_hops(spread: RunningStack, http: httpx2.Client, read: Read) -> None:
    """Where a node runs changes its time, not its result."""
    over_hops = httpx2.post(f"{spread.url}/v1/face_embedding", content=read("obama"), timeout=60)
    assert "hop_face_embedding" in over_hops.headers["server-timing"]
    beside = http.post("/v1/face_embedding", content=read("obama"))
    (one,), (other,) = over_hops.json()["faces"], beside.json()["faces"]
    np.testing.assert_allclose(one["embedding"], other["embedding"], atol=1e-5)


def test_lost_replica_fails_no_request(spread: RunningStack, read: Read) -> None:
    """A replica that is killed under load costs its requests a second try, not their answer."""
    photo = read("obama")
    with httpx2.Client(base_url=spread.url, timeout=90) as client:

        def ask(number: int) -> int:
            if number == 20:
                kill_replica(spread, "face_detection_alignment")
            return client.post("/v1/face_embedding", content=photo).status_code

        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(ask, range(120))) == [200] * 120


def kill_replica(running: RunningStack, deployment: str) -> None:
    """Kill one replica of a deployment without a warning."""
    for process in running.mark.processes():
        title = Path(f"/proc/{process.pid}/cmdline").read_bytes().decode()
        if title.startswith("ray::ServeReplica") and deployment in title:
            process.send_signal(signal.SIGKILL)
            return
    pytest.fail(f"no replica of {deployment} is running")
