"""The pipeline: runs the part of the graph that a request's outputs need, over handles.

It knows hosts only as something that runs segments. A host in this process is called as a
function, one behind a Serve handle over the handle; a call that met a dying replica is tried
once more elsewhere, which is safe because capabilities have no side effects.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from ray.exceptions import ActorUnavailableError, RayActorError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle, DeploymentResponse

from deployments.runtime.errors import (
    ClServeError,
    DeadlineExceededError,
    NodeUnavailableError,
    OverloadedError,
)
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
from serve_app.roots import require
from serve_app.walk import walk

logger = logging.getLogger("ray.serve")

ATTEMPTS = 2
"""Tries of one hop: the second goes to another replica, or waits for the restarted one."""


@dataclass(frozen=True, slots=True)
class Analysis:
    """What one request gave: results and failures by node, and each node's milliseconds."""

    results: dict[str, Any]
    failures: dict[str, ClServeError]
    elapsed_ms: dict[str, float]


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


class RemoteHost:
    """A ``Host`` behind a Serve handle."""

    def __init__(self, name: str, handle: DeploymentHandle) -> None:
        """Keep the handle; ``name`` is the deployment's, for messages."""
        self._name = name
        self._handle = handle

    async def run(
        self,
        call: SegmentCall,
        on_progress: ProgressListener | None = None,
    ) -> SegmentReply:
        """Run one segment on a replica; when the caller is cancelled, so is the call.

        Raises:
            OverloadedError: too many requests wait for the deployment.
            NodeUnavailableError: no replica could answer.

        """
        if on_progress is None:
            return await self._try(lambda: self._call("run", call))
        return await self._try(lambda: self._stream(call, on_progress))

    async def self_test(self, name: str) -> NodeHealth:
        """Test one node on a replica."""
        return await self._try(lambda: self._call("self_test", name))

    async def _call(self, method: str, argument: object) -> Any:  # noqa: ANN401 - the method's own type
        response: DeploymentResponse[Any] = getattr(self._handle, method).remote(argument)
        try:
            return await response
        except asyncio.CancelledError:
            response.cancel()
            raise

    async def _stream(self, call: SegmentCall, on_progress: ProgressListener) -> SegmentReply:
        streaming = self._handle.options(stream=True)
        response: Any = streaming.run_with_progress.remote(call)
        try:
            async for item in response:
                if isinstance(item, SegmentReply):
                    return item
                on_progress(item)
        except asyncio.CancelledError:
            response.cancel()
            raise
        raise NodeUnavailableError(f"{self._name} ended without an answer; try again shortly")

    async def _try(self, attempt: Callable[[], Awaitable[Any]]) -> Any:  # noqa: ANN401 - its own type
        for number in range(1, ATTEMPTS + 1):
            try:
                return await attempt()
            except BackPressureError as error:
                raise OverloadedError(
                    f"too many requests are waiting for {self._name}; try again shortly",
                ) from error
            except (RayActorError, ActorUnavailableError, DeploymentUnavailableError) as error:
                logger.warning("%s: attempt %d failed: %s", self._name, number, error)
        raise NodeUnavailableError(f"no replica of {self._name} could answer; try again shortly")


class Pipeline:
    """Answers requests by walking the graph over hosts."""

    def __init__(
        self,
        graph: Graph,
        hosts: Mapping[str, Host | RemoteHost],
        limits: Limits,
    ) -> None:
        """Keep the graph and who runs it: ``hosts`` has every deployment that hosts nodes."""
        self.graph = graph
        self._limits = limits
        self._hosts: Mapping[str, HostCaller] = hosts

    async def analyze(
        self,
        upload: Upload,
        outputs: Iterable[str],
        params: Mapping[str, Mapping[str, Any]],
        timeout_s: float | None = None,
        on_progress: ProgressListener | None = None,
    ) -> Analysis:
        """Compute the named outputs of one upload; the work that they share is done once.

        Args:
            upload: what was sent.
            outputs: node names.
            params: node name to the request parameters that were given for it.
            timeout_s: time limit of all of it, at most and by default the configured one.
            on_progress: is told how far long work has come.

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

        async def step(segment: Segment, replies: Mapping[Segment, Any]) -> dict[str, Any]:
            known = {name: value for reply in replies.values() for name, value in reply.items()}
            call = SegmentCall(
                segment,
                upload if segment.needs_upload else None,
                {name: known[name] for name in segment.imports},
                {name: params[name] for name in segment.nodes if name in params},
                self._limits.max_pixels,
            )
            start_s = time.perf_counter()
            try:
                reply = await self._hosts[segment.host].run(call, on_progress)
            except ClServeError as error:
                return dict.fromkeys(segment.exports, Failure(error))
            hop_ms = (time.perf_counter() - start_s) * 1000 - reply.total_ms
            elapsed_ms.update({**reply.elapsed_ms, f"hop_{segment.host}": hop_ms})
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
        )

    def _limit_s(self, outputs: tuple[str, ...]) -> float:
        """Time limit of a request: the configured one, or that of its slowest node."""
        given = [self.graph[name].spec.timeout_s or 0.0 for name in self.graph.subgraph(outputs)]
        return max(self._limits.request_timeout_s, *given)

    async def health(self, timeout_s: float) -> dict[str, NodeHealth]:
        """Self-test every node at once; a node that can't answer in time is broken."""

        async def test(name: str) -> NodeHealth:
            try:
                async with asyncio.timeout(timeout_s):
                    return await self._hosts[self.graph[name].host].self_test(name)
            except TimeoutError:
                return NodeHealth("broken", f"no answer within {timeout_s:g} s")
            except ClServeError as error:
                return NodeHealth("broken", str(error))

        found = await asyncio.gather(*(test(name) for name in self.graph))
        return dict(zip(self.graph, found, strict=True))
