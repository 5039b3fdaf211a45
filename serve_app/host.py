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
from typing import Any

import ray

from deployments.runtime.asset import Asset
from deployments.runtime.errors import (
    ModelError,
    ModelNotInstalledError,
    ToolError,
    ToolNotInstalledError,
)
from deployments.runtime.task import Task
from serve_app.calls import (
    NodeHealth,
    Progress,
    ProgressListener,
    SegmentCall,
    SegmentReply,
)
from serve_app.config import NodeTuning, parse_tuning
from serve_app.hosted import HostedNode, NodeCall, NodeWithSettings, host_node
from serve_app.logs import set_up_logs
from serve_app.roots import Roots
from serve_app.segment_run import SegmentRun

logger = logging.getLogger("ray.serve")


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
            hosted.load()
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
        began_s = time.perf_counter()
        run = SegmentRun(self._nodes, call, roots, on_progress)
        try:
            await run.run()
        finally:
            if roots is not None:
                roots.close()
        exports = {name: run.results[name] for name in call.segment.exports}
        total_ms = (time.perf_counter() - began_s) * 1000
        return SegmentReply(exports, run.elapsed_ms, total_ms, (began_s - self._up_since_s) * 1000)

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
            result = await hosted.compute(NodeCall(lambda: inputs, params, Task()))
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


def _assigned_cores() -> int:
    """How many cores the YAML gives this replica (``num_cpus``, rounded up); 1 outside of one.

    One worker thread for each: more only take turns, on caches that each of them has to fill.
    """
    if not ray.is_initialized() or ray.get_runtime_context().get_actor_id() is None:
        return 1
    return max(1, math.ceil(ray.get_runtime_context().get_assigned_resources().get("CPU", 1)))
