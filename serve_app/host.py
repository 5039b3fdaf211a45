"""The one Serve class: hosts one or more nodes in a process, batches them, reconfigures live.

A ``Host`` stays undecorated, so that it is tested without a cluster; ``app.py`` wraps it as a
deployment. It runs one segment of a request in one call: several nodes that follow each other
here cost one hop and share one decoded picture.
"""

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import Any

import ray

from deployments.runtime.asset import Asset
from deployments.runtime.errors import (
    ClServeError,
    DependencyFailedError,
    ModelError,
    ModelNotInstalledError,
    ToolError,
    ToolNotInstalledError,
)
from deployments.runtime.task import Task
from serve_app.calls import (
    Failure,
    NodeHealth,
    Progress,
    ProgressListener,
    SegmentCall,
    SegmentReply,
)
from serve_app.config import NodeTuning, parse_tuning
from serve_app.hosted import HostedNode, NodeCall, NodeWithSettings, host_node
from serve_app.http.problems import problem_for
from serve_app.logs import of_node, set_up_logs
from serve_app.roots import ROOTS, Roots
from serve_app.tracing import annotate, span
from serve_app.walk import walk

logger = logging.getLogger("ray.serve")

LOAD_RETRY_S = 5.0
"""How often a node that lacked a model or a program looks again: a pull needs no restart."""


class Host:
    """Runs segments on the nodes that it hosts."""

    def __init__(
        self,
        nodes: Sequence[NodeWithSettings],
        user_config: Mapping[str, Any] | None = None,
    ) -> None:
        """Load every node.

        A node whose model is missing or damaged does not keep the others from loading: its
        requests fail with that error until the model is there.

        Args:
            nodes: the nodes hosted here with their settings, in topological order.
            user_config: node name to tuning; see ``NodeTuning``.

        """
        set_up_logs()
        self._nodes: dict[str, HostedNode] = {}
        self._files = nodes[0][1].files
        shared = ThreadPoolExecutor(max_workers=_assigned_cores(), thread_name_prefix="host")
        for node, settings in nodes:
            hosted = host_node(node, settings, shared)
            self._nodes[node.name] = hosted
            self._load(hosted)
        self.reconfigure(user_config or {})
        self._up_since_s = time.perf_counter()

    def __del__(self) -> None:
        """End what capabilities have started; Serve calls it when a replica ends."""
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
            with of_node(name), span(name):
                try:
                    result = await self._run_node(hosted, call, roots, known, on_progress)
                except asyncio.CancelledError:
                    hosted.metrics.cancelled()
                    raise
                elapsed_s = time.perf_counter() - start_s
                kind = None
                if isinstance(result, Failure):
                    kind = problem_for(result.error).kind
                    annotate(error=kind)
                hosted.metrics.request(elapsed_s, kind)
            elapsed_ms[name] = elapsed_s * 1000
            return result

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
        total_ms = (time.perf_counter() - began_s) * 1000
        return SegmentReply(exports, elapsed_ms, total_ms, (began_s - self._up_since_s) * 1000)

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
            result = await self._compute(hosted, NodeCall(lambda: inputs, params, Task()))
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

    def _apply(self, hosted: HostedNode, tuning: NodeTuning) -> None:
        hosted.checked(tuning.params, complete=False)
        hosted.defaults = tuning.params
        hosted.batcher.max_batch_size = tuning.max_batch_size
        hosted.batcher.batch_wait_timeout_s = tuning.batch_wait_timeout_s
        hosted.batcher.max_concurrent_batches = tuning.max_concurrent_batches

    def _load(self, hosted: HostedNode) -> None:
        hosted.tried_at_s = time.monotonic()
        name = hosted.node.name
        with of_node(name):
            try:
                hosted.capability.load()
            except (ModelError, ToolError) as error:
                hosted.failure = error
                logger.warning("node %s can't run: %s", name, error)
                return
            except Exception as error:
                kind = type(hosted.capability)
                error.add_note(
                    f"load() of node {name} ({kind.__module__}.{kind.__qualname__}) failed; repair "
                    "its package, or take the node out of args.graph",
                )
                raise
        hosted.failure = None
        hosted.metrics.loaded(time.monotonic() - hosted.tried_at_s)

    async def _run_node(
        self,
        hosted: HostedNode,
        call: SegmentCall,
        roots: Roots | None,
        known: Mapping[str, Any],
        on_progress: ProgressListener | None,
    ) -> Any:  # noqa: ANN401 - any result type
        """Run one node; return its result, or its failure, which is logged where it arose."""
        name = hosted.node.name
        for source in hosted.node.sources:
            if isinstance(failure := known.get(source), Failure):
                return Failure(_dependent_failure(name, source, failure.error))

        def inputs() -> tuple[Any, ...]:
            return tuple(
                roots.get(source) if roots and source in ROOTS else known[source]
                for source in hosted.node.sources
            )

        loop = asyncio.get_running_loop()

        def listener(percent: float) -> None:
            if on_progress is not None:
                loop.call_soon_threadsafe(on_progress, Progress(name, percent))

        task = Task(listener, call.destination)
        try:
            params = call.params.get(name, {})
            return await self._compute(hosted, NodeCall(inputs, params, task, roots))
        except asyncio.CancelledError:
            task.cancel()
            raise
        except ClServeError as error:
            problem = problem_for(error)
            level = (
                logging.WARNING
                if problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR
                else logging.INFO
            )
            logger.log(level, "node %s failed: %s", name, error, extra={"kind": problem.kind})
            return Failure(error)
        except Exception:
            unexpected = ClServeError(f"{name} failed unexpectedly; the log has the details")
            extra = {"kind": problem_for(unexpected).kind}
            logger.exception("node %s failed unexpectedly", name, extra=extra)
            return Failure(unexpected)

    async def _compute(self, hosted: HostedNode, call: NodeCall) -> Any:  # noqa: ANN401 - any result type
        if hosted.failure is not None:
            if time.monotonic() - hosted.tried_at_s < LOAD_RETRY_S:
                raise hosted.failure
            await hosted.in_thread(self._load, hosted)
            if hosted.failure is not None:
                raise hosted.failure
        return await hosted.compute(call)


def _assigned_cores() -> int:
    """How many cores the YAML gives this replica (``num_cpus``, rounded up); 1 outside of one.

    One worker thread for each: more only take turns, on caches that each of them has to fill.
    """
    if not ray.is_initialized() or ray.get_runtime_context().get_actor_id() is None:
        return 1
    return max(1, math.ceil(ray.get_runtime_context().get_assigned_resources().get("CPU", 1)))


def _dependent_failure(name: str, source: str, error: ClServeError) -> ClServeError:
    """What to report for a node whose source failed: the cause, where the client can mend it."""
    if (
        isinstance(error, ModelError | ToolError | DependencyFailedError)
        or type(error) is ClServeError
    ):
        return DependencyFailedError(f"{name} needs {source}, which failed: {error}")
    return error
