"""One replica without Ray and HTTP: nodes in a process of their own, and a closed loop over them.

Nodes are hosted as ``Host`` hosts them, so threads, batches and the decoding of the photo cost what
they cost there. What other deployments compute of the photo is computed once and handed in.
"""

import asyncio
import gc
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil

from deployments.runtime.folders import AllowedFolders
from deployments.runtime.task import Task
from deployments.runtime.types import Upload
from serve_app.app import build_graph, node_settings
from serve_app.cli.tune.settings import Setting
from serve_app.config import ServeFile
from serve_app.hosted import HostedNode, NodeCall, host_node
from serve_app.roots import ROOTS, Roots
from serve_app.schema import NodeTuning
from serve_app.stores import open_stores
from serve_app.walk import walk


@dataclass(frozen=True, slots=True)
class Load:
    """How to measure: uploads in work at once, seconds before the window, and of the window."""

    clients: int
    warm_up_s: float
    window_s: float


@dataclass(frozen=True, slots=True)
class Sample:
    """What one replica did: per second, the latencies, and CPU seconds of its process for each."""

    per_s: float
    latencies_ms: Sequence[float]
    cpu_ms: float


@dataclass(slots=True)
class _Log:
    ends_s: list[float] = field(default_factory=list)
    latencies_ms: list[float] = field(default_factory=list)


class Replica:
    """Nodes of a file in this process."""

    def __init__(self, document: dict[str, Any], path: Path, upload: Upload) -> None:
        """Read the file; nothing is loaded yet.

        Args:
            document: a checked file's content, its paths absolute.
            path: the file's path, for messages.
            upload: what every request brings.

        """
        self._file = ServeFile(document, path)
        self._args = self._file.args
        self._upload = upload
        self._stores = open_stores(self._args)
        self._graph = build_graph(self._args, self._stores.models)
        self._hosted: dict[str, HostedNode] = {}

    def load(self, names: Sequence[str], setting: Setting) -> None:
        """Load nodes in place of those that were.

        Args:
            names: in topological order.
            setting: threads and batches; its replicas are the caller's.

        Raises:
            ModelError: a model can't be used.

        """
        self.unload()
        shared = ThreadPoolExecutor(setting.worker_threads, thread_name_prefix="host")
        tuning = self._tuning()
        for name in names:
            node = self._graph[name]
            settings = node_settings(node, self._args, self._stores)
            chosen = setting.nodes.get(name)
            if chosen is not None:
                settings = replace(settings, num_threads=chosen.num_threads)
            hosted = host_node(node, settings, shared)
            hosted.capability.load()
            hosted.defaults = tuning.get(name, NodeTuning()).params
            self._hosted[name] = hosted
        self.tune(setting)

    def unload(self) -> None:
        """Forget what is loaded."""
        for hosted in self._hosted.values():
            hosted.threads.shutdown()
            hosted.capability.close()
        self._hosted = {}
        gc.collect()

    def tune(self, setting: Setting) -> None:
        """Give the loaded nodes other batches."""
        for name, node in setting.nodes.items():
            if name in self._hosted:
                batcher = self._hosted[name].batcher
                batcher.max_batch_size = node.max_batch_size
                batcher.max_concurrent_batches = node.max_concurrent_batches

    def memory_bytes(self) -> int:
        """Return the memory of this process (PSS)."""
        return psutil.Process().memory_full_info().pss

    def results(self) -> tuple[dict[str, Any], dict[str, float]]:
        """Run every loaded node, one after another.

        Returns:
            Each node's result, and the milliseconds of CPU that it took, its first run left out.

        Raises:
            ClServeError: a node can't use what was sent.

        """
        results: dict[str, Any] = {}
        cpu_ms: dict[str, float] = {}
        for name in self._hosted:
            results |= asyncio.run(self._request((name,), results))
            begin_s = time.process_time()
            asyncio.run(self._request((name,), results))
            cpu_ms[name] = (time.process_time() - begin_s) * 1000
        return results, cpu_ms

    def run(self, names: Sequence[str], known: Mapping[str, Any], load: Load) -> Sample:
        """Send requests in a closed loop.

        Args:
            names: loaded nodes that each request runs, in topological order.
            known: the results of the nodes that they need besides.
            load: how many at once, and for how long.

        Raises:
            ClServeError: a node failed.

        """
        return asyncio.run(self._loop(names, known, load))

    async def _loop(self, names: Sequence[str], known: Mapping[str, Any], load: Load) -> Sample:
        begin_s = time.perf_counter() + load.warm_up_s
        end_s = begin_s + load.window_s
        log = _Log()

        async def client() -> None:
            while (start_s := time.perf_counter()) < end_s:
                await self._request(names, known)
                log.ends_s.append(time.perf_counter())
                log.latencies_ms.append((log.ends_s[-1] - start_s) * 1000)

        clients = [asyncio.create_task(client()) for _ in range(load.clients)]
        await asyncio.sleep(load.warm_up_s)
        cpu_begin_s = time.process_time()
        await asyncio.sleep(load.window_s)
        cpu_s = time.process_time() - cpu_begin_s
        await asyncio.gather(*clients)
        # From one end of a request to another, so that slow ones are not counted in parts.
        before_s = max((at_s for at_s in log.ends_s if at_s <= begin_s), default=begin_s)
        inside = [i for i, at_s in enumerate(log.ends_s) if before_s < at_s <= end_s]
        inside = inside or list(range(len(log.ends_s)))
        elapsed_s = max(log.ends_s[i] for i in inside) - before_s
        return Sample(
            len(inside) / elapsed_s,
            [log.latencies_ms[i] for i in inside],
            1000 * cpu_s / len(inside),
        )

    async def _request(self, names: Sequence[str], known: Mapping[str, Any]) -> dict[str, Any]:
        """Run nodes as one request; return their results."""
        roots = Roots(self._upload, AllowedFolders(), self._args.limits.max_pixels)
        needs = {
            name: tuple(source for source in self._hosted[name].node.sources if source in names)
            for name in names
        }

        async def step(name: str, results: Mapping[str, Any]) -> Any:  # noqa: ANN401 - any result type
            hosted = self._hosted[name]

            def inputs() -> tuple[Any, ...]:
                return tuple(
                    roots.get(source) if source in ROOTS else {**known, **results}[source]
                    for source in hosted.node.sources
                )

            params = hosted.capability.sample_params().model_dump(exclude_unset=True)
            call = NodeCall(inputs, params | hosted.defaults, Task(), roots)
            return await hosted.compute(call)

        try:
            return await walk(needs, step)
        finally:
            roots.close()

    def _tuning(self) -> dict[str, NodeTuning]:
        return {
            name: tuning
            for entry in self._file.application.deployments
            for name, tuning in (entry.user_config or {}).items()
            if tuning is not None
        }
