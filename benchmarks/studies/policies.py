"""Two batching policies on one event loop, with a made-up model that takes 20 ms a batch.

Ray Serve's ``serve.batch`` works within a replica only, so its policy is repeated here without
its bookkeeping: take what has arrived within the wait time, *then* wait for a free slot. Ours is
the real ``Batcher``: wait for a free slot, then take what has arrived by then.
"""

import asyncio
import random
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from benchmarks.progress import Steps
from serve_app.batching import Batcher

MODEL_S = 0.02
"""Per batch, whatever its size: a device that a single unit does not fill."""

PREPARE_S = (0.002, 0.01)
"""Between an answer and the next request of a client: decoding and scaling, which takes another
time for every photo. Without it all clients of a batch would stay in step for ever."""

MAX_BATCH_SIZE = 16
CLIENTS = (1, 8, 32)
WAITS_S = (0.0, 0.01)

Infer = Callable[[Sequence[Any]], Awaitable[Sequence[Any]]]
Submit = Callable[[Any], Awaitable[Any]]


class BatchFirst:
    """The policy of ``serve.batch``: form a batch, then wait for the slot."""

    def __init__(self, infer: Infer, wait_s: float) -> None:
        """Start the loop that forms batches; must be called on a running event loop."""
        self._infer = infer
        self._wait_s = wait_s
        self._queue: asyncio.Queue[tuple[Any, asyncio.Future[Any]]] = asyncio.Queue()
        self._slot = asyncio.Semaphore(1)
        self._running: set[asyncio.Task[None]] = set()
        self._loop = asyncio.create_task(self._form_batches())

    async def submit(self, unit: Any) -> Any:  # noqa: ANN401 - a unit and its part are anything
        """Return the part of one unit."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait((unit, future))
        return await future

    def close(self) -> None:
        """End the loop."""
        self._loop.cancel()

    async def _form_batches(self) -> None:
        while True:
            batch = [await self._queue.get()]
            deadline_s = time.monotonic() + self._wait_s
            while len(batch) < MAX_BATCH_SIZE:
                left_s = deadline_s - time.monotonic()
                try:
                    # Even without a wait this lets others run, and what they send is taken.
                    batch.append(await asyncio.wait_for(self._queue.get(), max(left_s, 0.0)))
                except TimeoutError:
                    while len(batch) < MAX_BATCH_SIZE and not self._queue.empty():
                        batch.append(self._queue.get_nowait())
                    break
            task = asyncio.create_task(self._run(batch))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def _run(self, batch: list[tuple[Any, asyncio.Future[Any]]]) -> None:
        async with self._slot:
            parts = await self._infer([unit for unit, _ in batch])
        for (_, future), part in zip(batch, parts, strict=True):
            future.set_result(part)


def expected_s(seconds: float) -> float:
    """About how long ``compare`` takes."""
    return 2 * len(WAITS_S) * len(CLIENTS) * seconds


def compare(seconds: float, steps: Steps) -> list[dict[str, Any]]:
    """Measure both policies with every number of clients and wait; a row of plain data each."""
    rows: list[dict[str, Any]] = []
    for wait_s in WAITS_S:
        for clients in CLIENTS:
            for policy in ("batch, then slot", "slot, then batch"):
                title = f"{policy}, {clients} clients, wait {1000 * wait_s:g} ms"
                with steps.step(title, seconds):
                    rows.append(asyncio.run(measure(policy, wait_s, clients, seconds)))
    return rows


async def measure(policy: str, wait_s: float, clients: int, seconds: float) -> dict[str, Any]:
    """Measure one policy with clients in a closed loop, each with one unit at a time."""
    sizes: list[int] = []
    latencies_ms: list[float] = []

    async def model(units: Sequence[Any]) -> Sequence[Any]:
        sizes.append(len(units))
        await asyncio.sleep(MODEL_S)
        return units

    batch_first = BatchFirst(model, wait_s) if policy == "batch, then slot" else None
    batcher = Batcher(model, max_batch_size=MAX_BATCH_SIZE, batch_wait_timeout_s=wait_s)

    async def submit(unit: object) -> None:
        await (batcher.submit([unit]) if batch_first is None else batch_first.submit(unit))

    end_s = time.perf_counter() + seconds

    async def client(number: int) -> None:
        prepare = random.Random(number)  # noqa: S311 - the same sequence in every run
        while time.perf_counter() < end_s:
            await asyncio.sleep(prepare.uniform(*PREPARE_S))
            start_s = time.perf_counter()
            await submit(number)
            latencies_ms.append((time.perf_counter() - start_s) * 1000)

    began_s = time.perf_counter()
    await asyncio.gather(*(client(number) for number in range(clients)))
    elapsed_s = time.perf_counter() - began_s
    if batch_first is not None:
        batch_first.close()
    return {
        "policy": policy,
        "wait_ms": wait_s * 1000,
        "clients": clients,
        "requests_per_s": round(len(latencies_ms) / elapsed_s, 1),
        "p50_ms": round(statistics.median(latencies_ms), 2),
        "mean_batch": round(statistics.mean(sizes), 2),
    }
