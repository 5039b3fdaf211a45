"""One segment of one request in a host: its nodes' calls, in threads or through batches.

Nodes that gain nothing from batches and follow each other run in one thread, one after the other:
between them nothing waits, neither for a thread nor for the event loop, and what one has made is
still in the processor's cache when the next one reads it.
"""

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from deployments.runtime.errors import (
    ClServeError,
    DependencyFailedError,
    ModelError,
    ToolError,
)
from deployments.runtime.task import Task
from serve_app.calls import Failure, Progress, ProgressListener, SegmentCall
from serve_app.hosted import HostedNode, NodeCall
from serve_app.http.problems import problem_for
from serve_app.logs import of_node
from serve_app.roots import ROOTS, Roots
from serve_app.tracing import annotate, span
from serve_app.walk import walk

logger = logging.getLogger("ray.serve")

Chain = tuple[str, ...]
"""Nodes that run one after the other in one thread, or a single one that may be batched."""


class SegmentRun:
    """The state of one segment's run: what is known so far, and what each node took.

    Attributes:
        results: what the nodes gave, or their failures, beside what came from other segments.
        elapsed_ms: milliseconds of each node since its inputs were known.

    """

    def __init__(
        self,
        nodes: Mapping[str, HostedNode],
        call: SegmentCall,
        roots: Roots | None,
        on_progress: ProgressListener | None,
    ) -> None:
        """Keep what is asked for; nothing runs. ``nodes`` are all of the host's."""
        self._nodes = nodes
        self._call = call
        self._roots = roots
        self._on_progress = on_progress
        self._loop = asyncio.get_running_loop()
        self.results: dict[str, Any] = dict(call.imports)
        self.elapsed_ms: dict[str, float] = {}

    async def run(self) -> None:
        """Run every node; the failure of one is a result, and is logged where it arose."""
        await walk(chains(self._call.segment.nodes, self._nodes), self._run_chain)

    async def _run_chain(self, chain: Chain, _done: Mapping[Chain, None]) -> None:
        calls = [(self._nodes[name], self._node_call(self._nodes[name])) for name in chain]
        first, call = calls[0]
        try:
            if first.runs_whole:
                await first.in_thread(self._run_whole, calls, time.perf_counter())
            else:
                await self._run_batched(first, call)
        except asyncio.CancelledError:
            for _, call in calls:
                call.task.cancel()
            for hosted, _ in calls:
                if hosted.node.name not in self.results:
                    hosted.metrics.cancelled()
                    break
            raise

    def _run_whole(self, calls: Sequence[tuple[HostedNode, NodeCall]], since_s: float) -> None:
        """Run nodes in this thread, until nobody waits for them any more."""
        for hosted, call in calls:
            with of_node(hosted.node.name), span(hosted.node.name):
                try:
                    result = self._failed_source(hosted) or hosted.compute_whole(call)
                except Exception as error:  # noqa: BLE001 - logged, and a result like any other
                    result = _failure(hosted, error, call.task)
                if call.task.cancelled:
                    return
                since_s = self._ended(hosted, result, since_s)

    async def _run_batched(self, hosted: HostedNode, call: NodeCall) -> None:
        since_s = time.perf_counter()
        with of_node(hosted.node.name), span(hosted.node.name):
            try:
                result = self._failed_source(hosted) or await hosted.compute(call)
            except Exception as error:  # noqa: BLE001 - as above
                result = _failure(hosted, error, call.task)
            self._ended(hosted, result, since_s)

    def _node_call(self, hosted: HostedNode) -> NodeCall:
        name, roots = hosted.node.name, self._roots

        def inputs() -> tuple[Any, ...]:
            return tuple(
                roots.get(source) if roots and source in ROOTS else self.results[source]
                for source in hosted.node.sources
            )

        def listener(percent: float) -> None:
            if self._on_progress is not None:
                self._loop.call_soon_threadsafe(self._on_progress, Progress(name, percent))

        task = Task(listener, self._call.destination)
        return NodeCall(inputs, self._call.params.get(name, {}), task, roots)

    def _failed_source(self, hosted: HostedNode) -> Failure | None:
        """Return the failure of a node that a source of it has failed."""
        for source in hosted.node.sources:
            if isinstance(failure := self.results.get(source), Failure):
                return Failure(_dependent_failure(hosted.node.name, source, failure.error))
        return None

    def _ended(self, hosted: HostedNode, result: Any, since_s: float) -> float:  # noqa: ANN401 - any result type
        """Note a node's result and its time; return when it was."""
        now_s = time.perf_counter()
        kind = None
        if isinstance(result, Failure):
            kind = problem_for(result.error).kind
            annotate(error=kind)
        hosted.metrics.request(now_s - since_s, kind)
        self.elapsed_ms[hosted.node.name] = (now_s - since_s) * 1000
        self.results[hosted.node.name] = result
        return now_s


def chains(names: Sequence[str], nodes: Mapping[str, HostedNode]) -> dict[Chain, tuple[Chain, ...]]:
    """Let nodes that run whole follow the one chain that they wait for, in its thread.

    Args:
        names: nodes of a segment, in topological order.
        nodes: all that the host has.

    Returns:
        Each chain with those that it waits for, in topological order.

    """
    members: dict[str, list[str]] = {}  # node to its chain, which is one list for all of its nodes
    firsts: list[str] = []
    for name in names:
        before = [members[source] for source in nodes[name].node.sources if source in members]
        if (
            before
            and all(chain is before[0] for chain in before)
            and nodes[name].runs_whole
            and nodes[before[0][0]].runs_whole
        ):
            members[name] = before[0]
            before[0].append(name)
        else:
            members[name] = [name]
            firsts.append(name)
    return {
        tuple(members[first]): tuple(
            {
                tuple(members[source]): None
                for source in nodes[first].node.sources
                if source in members
            }
        )
        for first in firsts
    }


def _failure(hosted: HostedNode, error: Exception, task: Task) -> Failure:
    """Make a node's error its result, and log it."""
    name = hosted.node.name
    if isinstance(error, ClServeError):
        problem = problem_for(error)
        level = (
            logging.WARNING if problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR else logging.INFO
        )
        if not task.cancelled:
            logger.log(level, "node %s failed: %s", name, error, extra={"kind": problem.kind})
        return Failure(error)
    unexpected = ClServeError(f"{name} failed unexpectedly; the log has the details")
    extra = {"kind": problem_for(unexpected).kind}
    logger.error("node %s failed unexpectedly", name, exc_info=error, extra=extra)
    return Failure(unexpected)


def _dependent_failure(name: str, source: str, error: ClServeError) -> ClServeError:
    """What to report for a node whose source failed: the cause, where the client can mend it."""
    if (
        isinstance(error, ModelError | ToolError | DependencyFailedError)
        or type(error) is ClServeError
    ):
        return DependencyFailedError(f"{name} needs {source}, which failed: {error}")
    return error
