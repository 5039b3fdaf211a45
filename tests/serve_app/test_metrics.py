"""What is counted, as Ray's metrics are told, without a cluster."""

from collections.abc import Callable

import pytest
from ray.util.metrics import Metric

from serve_app import metrics
from serve_app.host import Host
from tests.serve_app.fake import make_graph, make_settings
from tests.serve_app.test_host import run

Record = tuple[str, float, dict[str, str]]
Found = Callable[[str], list[tuple[float, dict[str, str]]]]


@pytest.fixture
def records(monkeypatch: pytest.MonkeyPatch) -> list[Record]:
    """Collect what Ray's metrics are told; where it goes without a cluster, nobody can look."""
    told: list[Record] = []

    def record(self: Metric, value: float, tags: dict[str, str] | None = None) -> None:
        told.append((self._name, value, tags or {}))

    monkeypatch.setattr(Metric, "_record", record)
    return told


@pytest.fixture
def found(records: list[Record]) -> Found:
    """Give the records of one metric."""
    return lambda name: [(value, tags) for known, value, tags in records if known == name]


def make_host() -> Host:
    """Host the whole fake graph in one process."""
    graph = make_graph(hosts={"text": ["words", "lengths"]})
    return Host([(node, make_settings()) for node in graph.values()])


async def test_requests_and_errors(found: Found) -> None:
    """Each node counts its own outcome, and a failure by the word of its problem."""
    host = make_host()
    await run(host, b"one three", "lengths")
    await run(host, b"\0", "words")
    await run(host, b"crash", "lengths")
    assert [
        (1, {"node": "words", "outcome": "ok"}),
        (1, {"node": "lengths", "outcome": "ok"}),
        (1, {"node": "words", "outcome": "failed"}),
        (1, {"node": "words", "outcome": "ok"}),
        (1, {"node": "lengths", "outcome": "failed"}),
    ] == found("cl_serve_requests")
    assert [
        (1, {"node": "words", "kind": "corrupt-media"}),
        (1, {"node": "lengths", "kind": "internal"}),
    ] == found("cl_serve_errors")
    assert len(found("cl_serve_latency_seconds")) == 5


async def test_batches(found: Found) -> None:
    """A batch is counted with its units, whether a request runs alone or through the queue."""
    host = make_host()
    await run(host, b"a bb ccc", "lengths")
    host.reconfigure({"lengths": {"batch_wait_timeout_s": 0.001}})
    await run(host, b"a bb", "lengths")
    assert [
        (3, {"node": "lengths"}),
        (2, {"node": "lengths"}),
    ] == found("cl_serve_batch_units")
    alone, queued = found("cl_serve_batch_wait_seconds")
    assert alone[0] == 0
    assert queued[0] > 0


def test_sample(found: Found) -> None:
    """States of the process and of the nodes that live are sampled, and no others."""
    kept = metrics.NodeMetrics("kept")
    kept.loaded(1.5)
    kept.watch_queue(lambda: 7)
    metrics.NodeMetrics("gone")
    metrics.sampler().sample()
    assert (1.5, {"node": "kept"}) in found("cl_serve_model_load_seconds")
    queues = found("cl_serve_queue_units")
    assert (7, {"node": "kept"}) in queues
    assert "gone" not in [tags["node"] for _, tags in queues]
    ((memory_bytes, _),) = found("cl_serve_memory_bytes")
    assert memory_bytes > 2**20


def test_outside_of_a_replica() -> None:
    """Code without a cluster counts into nothing, and has no thread."""
    metrics.count_http_request("/healthz", 200)
    metrics.count_cold_start("hash")
    metrics.NodeMetrics("x").cancelled()
    assert not metrics.in_replica()
