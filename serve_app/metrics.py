"""What Prometheus may know of a replica: counted by Ray's metrics, exported by Ray on each node.

Ray puts ``ray_`` before each name and its own labels ``deployment``, ``replica`` and
``application`` beside ours. A record costs 2 to 3 µs, so requests are counted where they run;
only what is a state and not an event, such as a queue's length, is sampled by a thread. Outside
of a replica the same calls count into nothing. docs/observability.md lists every metric.
"""

import functools
import threading
import weakref
from collections.abc import Callable

import psutil
from ray import serve
from ray.serve import metrics
from ray.serve.exceptions import RayServeException

LATENCY_BOUNDARIES_S = [
    *(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5),
    *(1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 600.0, 3600.0),
]
"""From a hash of a small file (2 ms) to a film as HLS (its ``timeout_s`` is an hour)."""

BATCH_BOUNDARIES = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0]
"""The default ``max_batch_size`` is 16; more helps on a GPU only."""

WAIT_BOUNDARIES_S = [0.0001, 0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0, 10.0]

SAMPLE_PERIOD_S = 5.0
"""Ray exports every 10 s; a sample (the kernel adds up the process's memory) costs some ms."""


class _Instruments:
    """Every metric of this process; made once, since Ray's labels are read when they are made."""

    def __init__(self) -> None:
        node = ("node",)
        self.requests = metrics.Counter(
            "cl_serve_requests",
            "Requests of a node by outcome: ok, failed, or cancelled by the client.",
            ("node", "outcome"),  # pyright: ignore[reportArgumentType] - Serve says Tuple[str]
        )
        self.errors = metrics.Counter(
            "cl_serve_errors",
            "Failed requests of a node, by the last word of the problem's type.",
            ("node", "kind"),  # pyright: ignore[reportArgumentType] - as above
        )
        self.latency = metrics.Histogram(
            "cl_serve_latency_seconds",
            "From a node's inputs being known to its result, waiting for a batch included.",
            LATENCY_BOUNDARIES_S,
            node,
        )
        self.batch_size = metrics.Histogram(
            "cl_serve_batch_units",
            "Units of one inference.",
            BATCH_BOUNDARIES,
            node,
        )
        self.batch_wait = metrics.Histogram(
            "cl_serve_batch_wait_seconds",
            "How long the oldest unit of a batch waited for it to start.",
            WAIT_BOUNDARIES_S,
            node,
        )
        self.queue = metrics.Gauge(
            "cl_serve_queue_units",
            "Units that wait for a batch.",
            node,
        )
        self.model_load = metrics.Gauge(
            "cl_serve_model_load_seconds",
            "How long the node took to load, its model included.",
            node,
        )
        self.memory = metrics.Gauge(
            "cl_serve_memory_bytes",
            "Memory of the replica's process (PSS: shared pages count in parts).",
        )
        self.http_requests = metrics.Counter(
            "cl_serve_http_requests",
            "HTTP requests by route and status; route is `other` where none took it.",
            ("route", "status"),  # pyright: ignore[reportArgumentType] - as above
        )
        self.cold_starts = metrics.Counter(
            "cl_serve_cold_starts",
            "Requests that waited for a replica of this host to start.",
            ("host",),
        )


_instruments = functools.cache(_Instruments)


class NodeMetrics:
    """What is counted of one node of this process."""

    def __init__(self, node: str) -> None:
        """Name the node; its state is sampled as long as this object lives."""
        self._instruments = _instruments()
        self._tags = {"node": node}
        self._load_s = 0.0
        self._queue_length: Callable[[], int] = int
        sampler().watch(self)

    def loaded(self, elapsed_s: float) -> None:
        """Note how long loading took."""
        self._load_s = elapsed_s

    def watch_queue(self, length: Callable[[], int]) -> None:
        """Sample this as the length of the node's queue."""
        self._queue_length = length

    def sample(self) -> None:
        """Record the node's state."""
        self._instruments.model_load.set(self._load_s, self._tags)
        self._instruments.queue.set(self._queue_length(), self._tags)

    def request(self, elapsed_s: float, kind: str | None) -> None:
        """Count an answered request; see ``count_request``."""
        self._instruments.latency.observe(elapsed_s, self._tags)
        count_request(self._tags["node"], kind)

    def cancelled(self) -> None:
        """Count a request that nobody waits for any more; its time says nothing."""
        self._instruments.requests.inc(1, {**self._tags, "outcome": "cancelled"})

    def batch(self, size: int, wait_s: float) -> None:
        """Count one inference of ``size`` units, whose oldest has waited ``wait_s``."""
        self._instruments.batch_size.observe(size, self._tags)
        self._instruments.batch_wait.observe(wait_s, self._tags)


def count_request(node: str, kind: str | None) -> None:
    """Count a node's request; ``kind`` is None, or the last word of a failure's problem type."""
    _instruments().requests.inc(1, {"node": node, "outcome": "failed" if kind else "ok"})
    if kind:
        _instruments().errors.inc(1, {"node": node, "kind": kind})


def count_http_request(route: str, status: int) -> None:
    """Count an HTTP request; ``route`` is a template such as ``/v1/outputs/{name}``."""
    _instruments().http_requests.inc(1, {"route": route, "status": str(status)})


def count_cold_start(host: str) -> None:
    """Count a request that waited for a replica of ``host`` to start."""
    _instruments().cold_starts.inc(1, {"host": host})


class Sampler:
    """Reads the states of this process every few seconds, in a thread of its own in a replica.

    Again and again, since Ray forgets a state that nobody repeats.
    """

    def __init__(self) -> None:
        """Watch the process's memory."""
        self._memory = _instruments().memory
        self._process = psutil.Process()
        self._nodes: weakref.WeakSet[NodeMetrics] = weakref.WeakSet()
        if in_replica():
            threading.Thread(target=self._run, name="metrics", daemon=True).start()

    def watch(self, node: NodeMetrics) -> None:
        """Sample a node as long as it is there."""
        self._nodes.add(node)

    def sample(self) -> None:
        """Read everything once."""
        self._memory.set(self._process.memory_full_info().pss)
        for node in tuple(self._nodes):
            node.sample()

    def _run(self) -> None:
        pause = threading.Event()
        while True:
            self.sample()
            pause.wait(SAMPLE_PERIOD_S)


sampler = functools.cache(Sampler)
"""The sampler of this process."""


def in_replica() -> bool:
    """Tell whether this is the process of a Serve replica."""
    try:
        serve.get_replica_context()
    except RayServeException:
        return False
    return True
