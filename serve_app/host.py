"""The one Serve class: hosts one or more nodes in a process, batches them, reconfigures live.

A ``Host`` stays undecorated, so that it is tested without a cluster; ``app.py`` wraps it as a
deployment. It runs one segment of a request in one call: several nodes that follow each other
here cost one hop and share one decoded picture.
"""

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import ray
from pydantic import ValidationError

from deployments.runtime.asset import Asset
from deployments.runtime.capability import Capability, NodeSettings, Work
from deployments.runtime.errors import (
    ClServeError,
    DependencyFailedError,
    InvalidParameterError,
    ModelError,
    ModelNotInstalledError,
    ToolError,
    ToolNotInstalledError,
)
from deployments.runtime.task import Task, running
from serve_app.batching import Batcher
from serve_app.calls import (
    Failure,
    NodeHealth,
    Progress,
    ProgressListener,
    SegmentCall,
    SegmentReply,
)
from serve_app.config import NodeTuning, describe_validation_error, parse_tuning
from serve_app.graph import Node
from serve_app.roots import ROOTS, Roots
from serve_app.walk import walk

logger = logging.getLogger("ray.serve")

LOAD_RETRY_S = 5.0
"""How often a node that lacked a model or a program looks again: a pull needs no restart."""

HostedNode = tuple[Node, NodeSettings]
"""A node, and what its capability needs to know where it runs."""


@dataclass(slots=True)
class _LoadedNode:
    """A node in this process: its capability, its batcher, and why it can't run, if so."""

    node: Node
    capability: Capability[Any, Any]
    batcher: Batcher
    threads: ThreadPoolExecutor
    defaults: dict[str, Any] = field(default_factory=dict)
    failure: ModelError | ToolError | None = None
    tried_at_s: float = 0.0

    async def in_thread(self, function: Callable[..., Any], *args: Any) -> Any:  # noqa: ANN401 - passes anything through
        """Run a function in one of the node's worker threads."""
        return await asyncio.get_running_loop().run_in_executor(self.threads, function, *args)


@dataclass(frozen=True, slots=True)
class _NodeCall:
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


class Host:
    """Runs segments on the nodes that it hosts."""

    def __init__(
        self,
        nodes: Sequence[HostedNode],
        user_config: Mapping[str, Any] | None = None,
    ) -> None:
        """Load every node.

        A node whose model is missing or damaged does not keep the others from loading: its
        requests fail with that error until the model is there.

        Args:
            nodes: the nodes hosted here with their settings, in topological order.
            user_config: node name to tuning; see ``NodeTuning``.

        """
        self._threads = ThreadPoolExecutor(
            max_workers=_assigned_cores(),
            thread_name_prefix="host",
        )
        self._nodes: dict[str, _LoadedNode] = {}
        self._files = nodes[0][1].files
        for node, settings in nodes:
            hosted = _hosted(node, settings, self._threads)
            self._nodes[node.name] = hosted
            self._load(hosted)
        self.reconfigure(user_config or {})

    def close(self) -> None:
        """End the programs that capabilities have started."""
        for hosted in self._nodes.values():
            hosted.capability.close()

    def reconfigure(self, user_config: Mapping[str, Any]) -> None:
        """Take new tuning without a restart; batches that run are not disturbed.

        Raises:
            ConfigError: a node that is not hosted here, an unknown key or a wrong value.

        """
        for name, tuning in parse_tuning(user_config, tuple(self._nodes)).items():
            self._apply(self._nodes[name], tuning)

    async def run(
        self,
        call: SegmentCall,
        on_progress: ProgressListener | None = None,
    ) -> SegmentReply:
        """Run one segment; a node's failure is a value in the reply, not an exception.

        When the caller is cancelled, so is the work of its nodes.
        """
        roots = None
        if call.upload is not None:
            roots = Roots(call.upload, self._files, call.max_pixels)
        elapsed_ms: dict[str, float] = {}
        began_s = time.perf_counter()

        async def step(name: str, results: Mapping[str, Any]) -> Any:  # noqa: ANN401 - any result type
            hosted = self._nodes[name]
            known = {**call.imports, **results}
            start_s = time.perf_counter()
            try:
                return await self._run_node(hosted, call, roots, known, on_progress)
            except ClServeError as error:
                return Failure(error)
            except Exception:
                logger.exception("node %s failed unexpectedly", name)
                return Failure(ClServeError(f"{name} failed unexpectedly; the log has the details"))
            finally:
                elapsed_ms[name] = (time.perf_counter() - start_s) * 1000

        members = call.segment.nodes
        needs = {
            name: tuple(s for s in self._nodes[name].node.sources if s in members)
            for name in members
        }
        try:
            results = await walk(needs, step)
        finally:
            if roots is not None:
                roots.close()
        exports = {name: results[name] for name in call.segment.exports}
        return SegmentReply(exports, elapsed_ms, (time.perf_counter() - began_s) * 1000)

    async def run_with_progress(self, call: SegmentCall) -> AsyncIterator[Progress | SegmentReply]:
        """Run one segment; yield progress as it comes, and the reply at last."""
        news: asyncio.Queue[Progress | None] = asyncio.Queue()
        work = asyncio.create_task(self.run(call, news.put_nowait))
        work.add_done_callback(lambda _: news.put_nowait(None))
        try:
            while (progress := await news.get()) is not None:
                yield progress
            yield await work
        finally:
            work.cancel()

    async def self_test(self, name: str) -> NodeHealth:
        """Run the node's own sample through the same path as a request."""
        hosted = self._nodes[name]
        start_s = time.perf_counter()
        capability = hosted.capability
        inputs: tuple[Any, ...] = ()
        try:
            inputs = await hosted.in_thread(capability.sample)
            params = capability.sample_params().model_dump(exclude_unset=True)
            result = await self._compute(hosted, _NodeCall(lambda: inputs, params, Task()))
            await hosted.in_thread(capability.discard, result)
        except (ModelError, ToolError) as error:
            missing = isinstance(error, ModelNotInstalledError | ToolNotInstalledError)
            return NodeHealth("not_installed" if missing else "broken", str(error))
        except Exception as error:
            logger.exception("self-test of node %s failed", name)
            return NodeHealth("broken", str(error))
        finally:
            for asset in inputs:
                if isinstance(asset, Asset):
                    asset.close()
        return NodeHealth("ready", elapsed_ms=(time.perf_counter() - start_s) * 1000)

    def _apply(self, hosted: _LoadedNode, tuning: NodeTuning) -> None:
        _validate(hosted, tuning.params, complete=False)
        hosted.defaults = tuning.params
        hosted.batcher.max_batch_size = tuning.max_batch_size
        hosted.batcher.batch_wait_timeout_s = tuning.batch_wait_timeout_s
        hosted.batcher.max_concurrent_batches = tuning.max_concurrent_batches

    def _load(self, hosted: _LoadedNode) -> None:
        hosted.tried_at_s = time.monotonic()
        try:
            hosted.capability.load()
        except (ModelError, ToolError) as error:
            hosted.failure = error
            logger.warning("node %s can't run: %s", hosted.node.name, error)
        else:
            hosted.failure = None

    async def _run_node(
        self,
        hosted: _LoadedNode,
        call: SegmentCall,
        roots: Roots | None,
        known: Mapping[str, Any],
        on_progress: ProgressListener | None,
    ) -> Any:  # noqa: ANN401 - any result type
        name = hosted.node.name
        for source in hosted.node.sources:
            if isinstance(failure := known.get(source), Failure):
                raise _dependent_failure(name, source, failure.error)

        def inputs() -> tuple[Any, ...]:
            return tuple(
                roots.get(source) if roots and source in ROOTS else known[source]
                for source in hosted.node.sources
            )

        loop = asyncio.get_running_loop()

        def listener(percent: float) -> None:
            if on_progress is not None:
                loop.call_soon_threadsafe(on_progress, Progress(name, percent))

        task = Task(listener)
        try:
            params = call.params.get(name, {})
            return await self._compute(hosted, _NodeCall(inputs, params, task, roots))
        except asyncio.CancelledError:
            task.cancel()
            raise

    async def _compute(self, hosted: _LoadedNode, call: _NodeCall) -> Any:  # noqa: ANN401 - any result type
        if hosted.failure is not None:
            if time.monotonic() - hosted.tried_at_s < LOAD_RETRY_S:
                raise hosted.failure
            await hosted.in_thread(self._load, hosted)
            if hosted.failure is not None:
                raise hosted.failure
        capability = hosted.capability
        params = _validate(hosted, {**hosted.defaults, **call.params})

        def prepare() -> Work:
            # The file's header is read here, in a worker thread, not on the event loop.
            with call.running():
                return capability.prepare(call.inputs(), params)

        def finish(work: Work, parts: Sequence[Any]) -> Any:  # noqa: ANN401 - any result type
            with call.running():
                return capability.finish(work, parts)

        def run_alone() -> Any:  # noqa: ANN401 - any result type
            with call.running():
                work = capability.prepare(call.inputs(), params)
                size = hosted.batcher.max_batch_size
                parts: list[Any] = []
                for start in range(0, len(work.units), size):
                    parts += capability.infer(work.units[start : start + size])
                return capability.finish(work, parts)

        if hosted.batcher.claim():
            try:
                return await hosted.in_thread(run_alone)
            finally:
                hosted.batcher.release()
        work = await hosted.in_thread(prepare)
        parts = await hosted.batcher.submit(work.units) if work.units else ()
        return await hosted.in_thread(finish, work, parts)


def _hosted(node: Node, settings: NodeSettings, shared: ThreadPoolExecutor) -> _LoadedNode:
    capability = node.capability(settings)
    threads = shared
    if capability.own_threads:
        threads = ThreadPoolExecutor(capability.own_threads, thread_name_prefix=node.name)

    async def infer(units: Sequence[Any]) -> Sequence[Any]:
        return await asyncio.get_running_loop().run_in_executor(threads, capability.infer, units)

    return _LoadedNode(node, capability, Batcher(infer), threads)


def _assigned_cores() -> int:
    """How many cores the YAML gives this replica (``num_cpus``, rounded up); 1 outside of one.

    One worker thread for each: more only take turns, on caches that each of them has to fill.
    """
    if not ray.is_initialized() or ray.get_runtime_context().get_actor_id() is None:
        return 1
    return max(1, math.ceil(ray.get_runtime_context().get_assigned_resources().get("CPU", 1)))


def _validate(
    hosted: _LoadedNode,
    params: Mapping[str, Any],
    *,
    complete: bool = True,
) -> Any:  # noqa: ANN401 - its Params class
    """Check parameters; those of the YAML need not be complete, since a request adds its own."""
    try:
        return hosted.capability.params.model_validate(params)
    except ValidationError as error:
        lines = tuple(
            describe_validation_error(error, prefix=hosted.node.name, complete=complete),
        )
        if lines:
            raise InvalidParameterError("; ".join(lines)) from error
        return None


def _dependent_failure(name: str, source: str, error: ClServeError) -> ClServeError:
    """What to report for a node whose source failed: the cause, where the client can mend it."""
    if (
        isinstance(error, ModelError | ToolError | DependencyFailedError)
        or type(error) is ClServeError
    ):
        return DependencyFailedError(f"{name} needs {source}, which failed: {error}")
    return error
