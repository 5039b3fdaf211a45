"""The one Serve class: hosts one or more nodes in a process, batches them, reconfigures live.

A ``Host`` stays undecorated, so that it is tested without a cluster; ``app.py`` wraps it as a
deployment. It runs one segment of a request in one call: several nodes that follow each other
here cost one hop and share one decoded picture.
"""

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import ray
from pydantic import ValidationError

from deployments.runtime.capability import Capability, NodeSettings, Work
from deployments.runtime.errors import (
    ClServeError,
    DependencyFailedError,
    InvalidParameterError,
    ModelError,
    ModelNotInstalledError,
)
from deployments.runtime.picture import DEFAULT_MAX_PIXELS, Picture
from deployments.runtime.types import Media
from serve_app.batching import Batcher
from serve_app.config import NodeTuning, describe_validation_error, parse_tuning
from serve_app.graph import ROOTS, Node, Segment
from serve_app.walk import walk

logger = logging.getLogger("ray.serve")

MODEL_RETRY_S = 5.0
"""How often a node whose model was missing looks again, so that a pull needs no restart."""

HostedNode = tuple[Node, NodeSettings]
"""A node, and what its capability needs to know where it runs."""

NodeState = Literal["ready", "not_installed", "broken"]


@dataclass(frozen=True, slots=True)
class Failure:
    """A node's failure as a value, so that the other results of a request survive it."""

    error: ClServeError


@dataclass(frozen=True, slots=True)
class SegmentCall:
    """What crosses the handle to a host: everything that it needs to run one segment."""

    segment: Segment
    media: Media | None
    imports: Mapping[str, Any]
    params: Mapping[str, Mapping[str, Any]]
    max_pixels: int = DEFAULT_MAX_PIXELS


@dataclass(frozen=True, slots=True)
class SegmentReply:
    """What comes back: exported results or failures, each node's milliseconds, and those of all."""

    results: dict[str, Any]
    elapsed_ms: dict[str, float]
    total_ms: float


@dataclass(frozen=True, slots=True)
class NodeHealth:
    """What a self-test of one node found."""

    state: NodeState
    detail: str = ""
    elapsed_ms: float = 0.0


@dataclass(slots=True)
class _LoadedNode:
    """A node in this process: its capability, its batcher, and why it can't run, if so."""

    node: Node
    capability: Capability[Any, Any]
    batcher: Batcher
    defaults: dict[str, Any] = field(default_factory=dict)
    failure: ModelError | None = None
    tried_at_s: float = 0.0


class _Upload:
    """The roots of one request in this process; the picture is opened once, when first needed."""

    def __init__(self, media: Media, max_pixels: int) -> None:
        self.upload = media
        self._max_pixels = max_pixels

    @cached_property
    def image(self) -> Picture:
        return Picture(self.upload, max_pixels=self._max_pixels)


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
        for node, settings in nodes:
            capability = node.capability(settings)
            batcher = Batcher(self._in_thread(capability.infer))
            hosted = _LoadedNode(node, capability, batcher)
            self._nodes[node.name] = hosted
            self._load(hosted)
        self.reconfigure(user_config or {})

    def reconfigure(self, user_config: Mapping[str, Any]) -> None:
        """Take new tuning without a restart; batches that run are not disturbed.

        Raises:
            ConfigError: a node that is not hosted here, an unknown key or a wrong value.

        """
        for name, tuning in parse_tuning(user_config, tuple(self._nodes)).items():
            self._apply(self._nodes[name], tuning)

    async def run(self, call: SegmentCall) -> SegmentReply:
        """Run one segment; a node's failure is a value in the reply, not an exception."""
        upload = _Upload(call.media, call.max_pixels) if call.media is not None else None
        elapsed_ms: dict[str, float] = {}
        began_s = time.perf_counter()

        async def step(name: str, results: Mapping[str, Any]) -> Any:  # noqa: ANN401 - any result type
            hosted = self._nodes[name]
            known = {**call.imports, **results}
            start_s = time.perf_counter()
            try:
                return await self._run_node(hosted, upload, known, call.params.get(name, {}))
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
        results = await walk(needs, step)
        exports = {name: results[name] for name in call.segment.exports}
        return SegmentReply(exports, elapsed_ms, (time.perf_counter() - began_s) * 1000)

    async def self_test(self, name: str) -> NodeHealth:
        """Run the node's own sample through the same path as a request."""
        hosted = self._nodes[name]
        start_s = time.perf_counter()
        try:
            await self._compute(hosted, hosted.capability.sample(), {})
        except ModelError as error:
            missing = isinstance(error, ModelNotInstalledError)
            return NodeHealth("not_installed" if missing else "broken", str(error))
        except Exception as error:
            logger.exception("self-test of node %s failed", name)
            return NodeHealth("broken", str(error))
        return NodeHealth("ready", elapsed_ms=(time.perf_counter() - start_s) * 1000)

    def _in_thread(
        self,
        function: Callable[..., Any],
    ) -> Callable[..., Awaitable[Any]]:
        async def call(*args: Any) -> Any:  # noqa: ANN401 - passes anything through
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, function, *args)

        return call

    def _apply(self, hosted: _LoadedNode, tuning: NodeTuning) -> None:
        _validate(hosted, tuning.params)
        hosted.defaults = tuning.params
        hosted.batcher.max_batch_size = tuning.max_batch_size
        hosted.batcher.batch_wait_timeout_s = tuning.batch_wait_timeout_s
        hosted.batcher.max_concurrent_batches = tuning.max_concurrent_batches

    def _load(self, hosted: _LoadedNode) -> None:
        hosted.tried_at_s = time.monotonic()
        try:
            hosted.capability.load()
        except ModelError as error:
            hosted.failure = error
            logger.warning("node %s can't run: %s", hosted.node.name, error)
        else:
            hosted.failure = None

    async def _run_node(
        self,
        hosted: _LoadedNode,
        upload: _Upload | None,
        known: Mapping[str, Any],
        params: Mapping[str, Any],
    ) -> Any:  # noqa: ANN401 - any result type
        for source in hosted.node.sources:
            if isinstance(failure := known.get(source), Failure):
                raise _dependent_failure(hosted.node.name, source, failure.error)

        def inputs() -> tuple[Any, ...]:
            return tuple(
                getattr(upload, source) if source in ROOTS else known[source]
                for source in hosted.node.sources
            )

        return await self._compute(hosted, inputs, params)

    async def _compute(
        self,
        hosted: _LoadedNode,
        inputs: tuple[Any, ...] | Callable[[], tuple[Any, ...]],
        params: Mapping[str, Any],
    ) -> Any:  # noqa: ANN401 - any result type
        if hosted.failure is not None:
            if time.monotonic() - hosted.tried_at_s < MODEL_RETRY_S:
                raise hosted.failure
            await self._in_thread(self._load)(hosted)
            if hosted.failure is not None:
                raise hosted.failure
        capability = hosted.capability
        checked = _validate(hosted, {**hosted.defaults, **params})

        def prepare() -> Work:
            # The picture's header is read here, in a worker thread, not on the event loop.
            return capability.prepare(inputs() if callable(inputs) else inputs, checked)

        def run_alone() -> Any:  # noqa: ANN401 - any result type
            work = prepare()
            size = hosted.batcher.max_batch_size
            parts: list[Any] = []
            for start in range(0, len(work.units), size):
                parts += capability.infer(work.units[start : start + size])
            return capability.finish(work, parts)

        if hosted.batcher.claim():
            try:
                return await self._in_thread(run_alone)()
            finally:
                hosted.batcher.release()
        work = await self._in_thread(prepare)()
        parts = await hosted.batcher.submit(work.units) if work.units else ()
        return await self._in_thread(capability.finish)(work, parts)


def _assigned_cores() -> int:
    """How many cores the YAML gives this replica (``num_cpus``, rounded up); 1 outside of one.

    One worker thread for each: more only take turns, on caches that each of them has to fill.
    """
    if not ray.is_initialized() or ray.get_runtime_context().get_actor_id() is None:
        return 1
    return max(1, math.ceil(ray.get_runtime_context().get_assigned_resources().get("CPU", 1)))


def _validate(hosted: _LoadedNode, params: Mapping[str, Any]) -> Any:  # noqa: ANN401 - its Params class
    try:
        return hosted.capability.params.model_validate(params)
    except ValidationError as error:
        lines = describe_validation_error(error, prefix=hosted.node.name)
        raise InvalidParameterError("; ".join(lines)) from error


def _dependent_failure(name: str, source: str, error: ClServeError) -> ClServeError:
    """What to report for a node whose source failed: the cause, where the client can mend it."""
    if isinstance(error, ModelError | DependencyFailedError) or type(error) is ClServeError:
        return DependencyFailedError(f"{name} needs {source}, which failed: {error}")
    return error
