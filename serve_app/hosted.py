"""One node inside a host: its capability, its threads and batcher, and one call of it."""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from contextvars import copy_context
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from pydantic import ValidationError

from deployments.runtime.capability import Capability, NodeSettings, Work
from deployments.runtime.errors import InvalidParameterError, ModelError, ToolError
from deployments.runtime.task import Task, running
from serve_app.batching import Batcher
from serve_app.graph import Node
from serve_app.logs import of_node
from serve_app.metrics import NodeMetrics
from serve_app.roots import Roots
from serve_app.tracing import annotate, span
from serve_app.validation import describe_validation_error

NodeWithSettings = tuple[Node, NodeSettings]
"""A node, and what its capability needs to know where it runs."""


@dataclass(frozen=True, slots=True)
class NodeCall:
    """One node's part in one request: its inputs, its parameters, and who watches its work."""

    inputs: Callable[[], tuple[Any, ...]]
    params: Mapping[str, Any]
    task: Task
    roots: Roots | None = None

    @contextmanager
    def running(self) -> Iterator[None]:
        """In a worker thread: keep the roots open and make the task the current one."""
        with self.roots.use() if self.roots else nullcontext(), running(self.task):
            self.task.raise_if_cancelled()
            yield


@dataclass(slots=True)
class HostedNode:
    """A node in this process; ``failure`` is why it can't run, if so."""

    node: Node
    capability: Capability[Any, Any]
    batcher: Batcher
    threads: ThreadPoolExecutor
    metrics: NodeMetrics
    defaults: dict[str, Any] = field(default_factory=dict)
    failure: ModelError | ToolError | None = None
    tried_at_s: float = 0.0

    async def in_thread(self, function: Callable[..., Any], *args: Any) -> Any:  # noqa: ANN401 - passes anything through
        """Run a function in one of the node's worker threads, for the request of the caller."""
        call = partial(copy_context().run, function, *args)
        return await asyncio.get_running_loop().run_in_executor(self.threads, call)

    def checked(self, params: Mapping[str, Any], *, complete: bool = True) -> Any:  # noqa: ANN401 - its Params class
        """Check parameters; those of the YAML need not be complete, since a request adds its own.

        Returns:
            The capability's ``Params``, or None where only completeness is missing.

        Raises:
            InvalidParameterError: one is unknown or wrong.

        """
        try:
            return self.capability.params.model_validate(params)
        except ValidationError as error:
            lines = tuple(
                describe_validation_error(error, prefix=self.node.name, complete=complete),
            )
            if lines:
                raise InvalidParameterError("; ".join(lines)) from error
            return None

    async def compute(self, call: NodeCall) -> Any:  # noqa: ANN401 - any result type
        """Run one call: alone in one thread where the node is idle, else through its batches.

        Raises:
            ClServeError: what the capability raises; also for a wrong parameter.

        """
        capability = self.capability
        params = self.checked({**self.defaults, **call.params})

        def prepare() -> Work:
            # The file's header is read here, in a worker thread, not on the event loop.
            with span("prepare"):
                return capability.prepare(call.inputs(), params)

        def finish(work: Work, parts: Sequence[Any]) -> Any:  # noqa: ANN401 - any result type
            with span("finish"):
                return capability.finish(work, parts)

        def run_alone() -> Any:  # noqa: ANN401 - any result type
            work = prepare()
            size = self.batcher.max_batch_size
            parts: list[Any] = []
            for start in range(0, len(work.units), size):
                units = work.units[start : start + size]
                self.metrics.batch(len(units), 0.0)
                with span("infer"):
                    annotate(batch_size=len(units))
                    parts += capability.infer(units)
            return finish(work, parts)

        def watched(function: Callable[..., Any], *args: Any) -> Any:  # noqa: ANN401 - passes anything through
            with call.running():
                return function(*args)

        if self.batcher.claim():
            try:
                return await self.in_thread(watched, run_alone)
            finally:
                self.batcher.release()
        work = await self.in_thread(watched, prepare)
        parts: Sequence[Any] = ()
        if work.units:
            with span("infer"):
                parts = await self.batcher.submit(work.units)
        return await self.in_thread(watched, finish, work, parts)


def host_node(node: Node, settings: NodeSettings, shared: ThreadPoolExecutor) -> HostedNode:
    """Make a node's capability, and its threads where it wants its own; nothing is loaded."""
    capability = node.capability(settings)
    threads = shared
    if capability.own_threads:
        threads = ThreadPoolExecutor(capability.own_threads, thread_name_prefix=node.name)

    metrics = NodeMetrics(node.name)

    def infer_batch(units: Sequence[Any]) -> Sequence[Any]:
        with of_node(node.name):
            return capability.infer(units)

    async def infer(units: Sequence[Any]) -> Sequence[Any]:
        return await asyncio.get_running_loop().run_in_executor(threads, infer_batch, units)

    batcher = Batcher(infer, metrics.batch)
    metrics.watch_queue(batcher.queue_length)
    return HostedNode(node, capability, batcher, threads, metrics)
