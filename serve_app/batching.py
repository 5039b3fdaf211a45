"""Batching across requests that fills the next batch while the current one runs.

Ray Serve's own ``serve.batch`` forms a batch before it waits for a free slot, so that a busy
model still gets batches of what arrived within the wait time. Here a batch is formed when a
slot is free, from everything that waits by then: an idle node answers at once, a busy one gets
full batches, and the wait time can stay at zero. See ``docs/decisions/0002-batching.md``.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from dataclasses import dataclass, field
from typing import Any

from serve_app.tracing import annotate

Infer = Callable[[Sequence[Any]], Awaitable[Sequence[Any]]]
OnBatch = Callable[[int, float], None]
"""Is told of each batch that starts: how many units it has, how long the oldest has waited (s)."""


@dataclass(slots=True)
class _Waiting:
    """A unit on its way: who waits for its part, since when, and the size of its batch."""

    unit: Any
    part: asyncio.Future[Any]
    since_s: float = field(default_factory=time.perf_counter)
    batch_size: int = 0


class Batcher:
    """Collects units from many requests and runs them in batches, on one event loop.

    The three limits are plain attributes and may be changed while batches run.
    """

    def __init__(
        self,
        infer: Infer,
        on_batch: OnBatch = lambda _size, _wait_s: None,
        *,
        max_batch_size: int = 16,
        batch_wait_timeout_s: float = 0.0,
        max_concurrent_batches: int = 1,
    ) -> None:
        """Keep the limits; nothing runs before the first ``submit``."""
        self._infer = infer
        self._on_batch = on_batch
        self.max_batch_size = max_batch_size
        self.batch_wait_timeout_s = batch_wait_timeout_s
        self.max_concurrent_batches = max_concurrent_batches
        self._waiting: deque[_Waiting] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self._claimed = 0
        self._timer: asyncio.TimerHandle | None = None

    def queue_length(self) -> int:
        """Units that wait for a batch."""
        return len(self._waiting)

    def claim(self) -> bool:
        """Take a slot for work that does not wait for others, if one is free and nobody waits.

        Whoever gets True runs its units itself, at most ``max_batch_size`` at once, and calls
        ``release``. It saves an idle node the hand-overs between threads that a batch costs.
        """
        if self._waiting or not self._has_slot() or self.batch_wait_timeout_s > 0:
            return False
        self._claimed += 1
        return True

    def release(self) -> None:
        """Give a claimed slot back; what has come meanwhile makes the next batch."""
        self._claimed -= 1
        self._schedule(asyncio.get_running_loop())

    async def submit(self, units: Sequence[Any]) -> list[Any]:
        """Return one part per unit, in order. Raises what ``infer`` raised for their batch.

        A cancelled caller's units that have not started are dropped from the queue.
        """
        loop = asyncio.get_running_loop()
        entries = [_Waiting(unit, loop.create_future()) for unit in units]
        self._waiting.extend(entries)
        self._schedule(loop)
        parts = list(await asyncio.gather(*(entry.part for entry in entries)))
        annotate(batch_size=max(entry.batch_size for entry in entries))
        return parts

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start batches while a slot is free, or a timer when a batch may still fill."""
        while self._waiting and self._has_slot():
            may_fill = len(self._waiting) < self.max_batch_size and not self._running
            if may_fill and self.batch_wait_timeout_s > 0:
                if self._timer is None:
                    self._timer = loop.call_later(self.batch_wait_timeout_s, self._start)
                return
            self._start()

    def _has_slot(self) -> bool:
        return len(self._running) + self._claimed < self.max_concurrent_batches

    def _start(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        batch: list[_Waiting] = []
        while self._waiting and len(batch) < self.max_batch_size:
            entry = self._waiting.popleft()
            if not entry.part.done():
                batch.append(entry)
        if batch:
            for entry in batch:
                entry.batch_size = len(batch)
            self._on_batch(len(batch), time.perf_counter() - batch[0].since_s)
            # An empty context: the batch belongs to all its requests, not to who filled it.
            task = asyncio.get_running_loop().create_task(self._run(batch), context=Context())
            self._running.add(task)
            task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._schedule(task.get_loop())

    async def _run(self, batch: list[_Waiting]) -> None:
        try:
            parts = await self._infer([entry.unit for entry in batch])
            if len(parts) != len(batch):
                message = f"infer returned {len(parts)} parts for {len(batch)} units"
                raise RuntimeError(message)  # noqa: TRY301 - it fails the batch like any other
        except Exception as error:  # noqa: BLE001 - whatever it is belongs to the callers
            for entry in batch:
                if not entry.part.done():
                    entry.part.set_exception(error)
            return
        for entry, part in zip(batch, parts, strict=True):
            if not entry.part.done():
                entry.part.set_result(part)
