"""One node inside a host: its capability, its threads and batcher, and one call of it."""

import asyncio
import logging
import time
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

logger = logging.getLogger("ray.serve")

LOAD_RETRY_S = 5.0
"""How often a node that lacked a model or a program looks again: a pull needs no restart."""

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
    runs_whole: bool = False
    """Whether a request's part in it is one piece of work, in a thread that nodes share."""
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

    def load(self) -> None:
        """Load the capability; where its model or its program is missing, keep that as a failure.

        Raises:
            Exception: what else its package raises, with a note that says whose it is.

        """
        self.tried_at_s = time.monotonic()
        name = self.node.name
        with of_node(name):
            try:
                self.capability.load()
            except (ModelError, ToolError) as error:
                self.failure = error
                logger.warning("node %s can't run: %s", name, error)
                return
            except Exception as error:
                kind = type(self.capability)
                error.add_note(
                    f"load() of node {name} ({kind.__module__}.{kind.__qualname__}) failed; repair "
                    "its package, or take the node out of args.graph",
                )
                raise
        self.failure = None
        self.runs_whole = not (self.capability.own_threads or self.capability.gains_from_batches)
        self.metrics.loaded(time.monotonic() - self.tried_at_s)

    def compute_whole(self, call: NodeCall) -> Any:  # noqa: ANN401 - any result type
        """Run one call alone, in this thread. Raises what the capability raises."""
        params = self.checked({**self.defaults, **call.params})
        with call.running():
            work = self._prepare(call, params)
            size = self.batcher.max_batch_size
            parts: list[Any] = []
            for start in range(0, len(work.units), size):
                units = work.units[start : start + size]
                if not self.runs_whole:
                    self.metrics.batch(len(units), 0.0)
                with span("infer"):
                    annotate(batch_size=len(units))
                    parts += self.capability.infer(units)
            return self._finish(work, parts)

    async def compute(self, call: NodeCall) -> Any:  # noqa: ANN401 - any result type
        """Run one call: alone in one thread where the node is idle, else through its batches.

        Raises:
            ClServeError: what the capability raises; also for a wrong parameter, and for a model or
                a program that is still missing.

        """
        if self.failure is not None:
            if time.monotonic() - self.tried_at_s < LOAD_RETRY_S:
                raise self.failure
            await self.in_thread(self.load)
            if self.failure is not None:
                raise self.failure
        if self.runs_whole:
            return await self.in_thread(self.compute_whole, call)
        params = self.checked({**self.defaults, **call.params})

        def watched(function: Callable[..., Any], *args: Any) -> Any:  # noqa: ANN401 - passes anything through
            with call.running():
                return function(*args)

        if self.batcher.claim():
            try:
                return await self.in_thread(self.compute_whole, call)
            finally:
                self.batcher.release()
        work = await self.in_thread(watched, self._prepare, call, params)
        parts: Sequence[Any] = ()
        if work.units:
            with span("infer"):
                parts = await self.batcher.submit(work.units)
        return await self.in_thread(watched, self._finish, work, parts)

    def _prepare(self, call: NodeCall, params: Any) -> Work:  # noqa: ANN401 - its Params class
        # The file's header is read here, in a worker thread, not on the event loop.
        with span("prepare"):
            return self.capability.prepare(call.inputs(), params)

    def _finish(self, work: Work, parts: Sequence[Any]) -> Any:  # noqa: ANN401 - any result type
        with span("finish"):
            return self.capability.finish(work, parts)


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
