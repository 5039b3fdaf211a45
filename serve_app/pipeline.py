"""The pipeline: runs the part of the graph that a request's outputs need, over handles.

It knows hosts only as something that runs segments. A host in this process is called as a
function, one behind a Serve handle over the handle (``remote_host.py``).
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from ray.exceptions import RayError

from deployments.runtime.errors import ClServeError, DeadlineExceededError
from deployments.runtime.types import Upload
from serve_app.calls import (
    Failure,
    NodeHealth,
    ProgressListener,
    SegmentCall,
    SegmentReply,
)
from serve_app.config import Limits
from serve_app.graph import Graph, Segment
from serve_app.host import Host
from serve_app.http.problems import problem_for
from serve_app.metrics import count_cold_start, count_request
from serve_app.remote_host import RemoteHost
from serve_app.replicas import sleepers
from serve_app.roots import require
from serve_app.walk import walk

logger = logging.getLogger("ray.serve")


@dataclass(frozen=True, slots=True)
class Analysis:
    """What one request gave: results and failures by node, and each node's milliseconds.

    ``cold_starts`` has the hosts of which a replica had to be started for it, and the
    milliseconds that it waited for each.
    """

    results: dict[str, Any]
    failures: dict[str, ClServeError]
    elapsed_ms: dict[str, float]
    cold_starts: dict[str, float] = field(default_factory=dict)


class HostCaller(Protocol):
    """Anything that runs segments and self-tests: a local ``Host`` or a ``RemoteHost``."""

    async def run(
        self,
        call: SegmentCall,
        on_progress: ProgressListener | None = None,
    ) -> SegmentReply:
        """Run one segment."""
        ...

    async def self_test(self, name: str) -> NodeHealth:
        """Test one node."""
        ...


class Pipeline:
    """Answers requests by walking the graph over hosts."""

    def __init__(
        self,
        graph: Graph,
        hosts: Mapping[str, Host | RemoteHost],
        limits: Limits,
        find_sleepers: Callable[[], Mapping[str, frozenset[str]]] = sleepers,
    ) -> None:
        """Keep the graph and who runs it: ``hosts`` has every deployment that hosts nodes."""
        self.graph = graph
        self._find_sleepers = find_sleepers
        self._awake: dict[str, tuple[frozenset[str], NodeHealth]] = {}
        self._limits = limits
        self._hosts: Mapping[str, HostCaller] = hosts

    async def analyze(  # noqa: PLR0913 - two of them are for long work only
        self,
        upload: Upload,
        outputs: Iterable[str],
        params: Mapping[str, Mapping[str, Any]],
        timeout_s: float | None = None,
        *,
        on_progress: ProgressListener | None = None,
        destination: str | None = None,
    ) -> Analysis:
        """Compute the named outputs of one upload; the work that they share is done once.

        Args:
            upload: what was sent.
            outputs: node names.
            params: node name to the request parameters that were given for it.
            timeout_s: time limit of all of it, at most and by default the configured one.
            on_progress: is told how far long work has come.
            destination: for a job, where in the file store a result of many files goes.

        Raises:
            UnknownOutputError: an output is not a node of the graph.
            EmptyInputError: an output needs a file, or a text, and none was sent.
            DeadlineExceededError: the time limit passed.

        """
        outputs = tuple(dict.fromkeys(outputs))
        require(self.graph.roots(outputs), upload)
        limit_s = self._limit_s(outputs)
        limit_s = min(timeout_s or limit_s, limit_s)
        segments = self.graph.plan(outputs)
        producer = {name: segment for segment in segments for name in segment.exports}
        needs = {
            segment: tuple(dict.fromkeys(producer[name] for name in segment.imports))
            for segment in segments
        }
        elapsed_ms: dict[str, float] = {}
        cold_starts: dict[str, float] = {}

        async def step(segment: Segment, replies: Mapping[Segment, Any]) -> dict[str, Any]:
            known = {name: value for reply in replies.values() for name, value in reply.items()}
            call = SegmentCall(
                segment,
                upload if segment.needs_upload else None,
                {name: known[name] for name in segment.imports},
                {name: params[name] for name in segment.nodes if name in params},
                self._limits.max_pixels,
                destination,
            )
            start_s = time.perf_counter()
            try:
                reply = await self._hosts[segment.host].run(call, on_progress)
            except ClServeError as error:
                kind = problem_for(error).kind
                for name in segment.nodes:
                    count_request(name, kind)
                extra = {"kind": kind, "node": ", ".join(segment.nodes)}
                logger.warning("%s failed: %s", segment.host, error, extra=extra)
                return dict.fromkeys(segment.exports, Failure(error))
            hop_ms = (time.perf_counter() - start_s) * 1000 - reply.total_ms
            elapsed_ms.update({**reply.elapsed_ms, f"hop_{segment.host}": hop_ms})
            # Durations of two machines, so that their clocks need not agree.
            if reply.host_age_ms < hop_ms:
                cold_starts[segment.host] = hop_ms
                count_cold_start(segment.host)
            return reply.results

        try:
            async with asyncio.timeout(limit_s):
                replies = await walk(needs, step)
        except TimeoutError as error:
            raise DeadlineExceededError(
                f"the request took longer than its limit of {limit_s:g} s",
            ) from error
        values = {name: value for reply in replies.values() for name, value in reply.items()}
        return Analysis(
            {name: values[name] for name in outputs if not isinstance(values[name], Failure)},
            {name: values[name].error for name in outputs if isinstance(values[name], Failure)},
            elapsed_ms,
            cold_starts,
        )

    def _limit_s(self, outputs: tuple[str, ...]) -> float:
        """Time limit of a request: the configured one, or that of its slowest node."""
        given = [self.graph[name].spec.timeout_s or 0.0 for name in self.graph.subgraph(outputs)]
        return max(self._limits.request_timeout_s, *given)

    async def health(self, timeout_s: float) -> dict[str, NodeHealth]:
        """Self-test every node at once; a node that can't answer in time is broken.

        Nodes whose host sleeps, with no replica and nothing to do, are ``idle``, and are let sleep.
        """
        try:
            async with asyncio.timeout(timeout_s):
                sleeping = await asyncio.to_thread(self._find_sleepers)
        except (TimeoutError, RayError) as error:
            logger.warning("Serve's controller does not say which nodes sleep: %s", repr(error))
            sleeping = {}

        async def test(name: str) -> NodeHealth:
            host = self.graph[name].host
            replicas = sleeping.get(host)
            if replicas is not None:
                if not replicas:
                    return NodeHealth("idle", "asleep; the next request starts it")
                tested, health = self._awake.get(name, (None, None))
                if health is not None and tested == replicas:
                    return health  # a test each time would never let it fall asleep
            try:
                async with asyncio.timeout(timeout_s):
                    health = await self._hosts[host].self_test(name)
            except TimeoutError:
                return NodeHealth("broken", f"no answer within {timeout_s:g} s")
            except ClServeError as error:
                return NodeHealth("broken", str(error))
            if replicas is not None and health.state == "ready":
                self._awake[name] = (replicas, health)
            return health

        found = await asyncio.gather(*(test(name) for name in self.graph))
        return dict(zip(self.graph, found, strict=True))
