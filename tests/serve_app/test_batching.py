"""Batches fill while the model is busy, and never wait when it is idle."""

import asyncio
from collections.abc import Sequence

import pytest

from serve_app.batching import Batcher


class Recorder:
    """An ``infer`` that records its batches and waits for permission to finish."""

    def __init__(self) -> None:
        """Start closed."""
        self.batches: list[list[int]] = []
        self.gate = asyncio.Event()
        self.started = asyncio.Event()

    async def __call__(self, units: Sequence[int]) -> list[int]:
        """Double every unit, once the gate is open."""
        self.batches.append(list(units))
        self.started.set()
        await self.gate.wait()
        if 13 in units:
            raise ValueError("unlucky")
        return [unit * 2 for unit in units]


async def test_idle_runs_at_once_and_busy_fills() -> None:
    """The first unit does not wait; what comes meanwhile makes one batch, up to its limit."""
    infer = Recorder()
    batcher = Batcher(infer, max_batch_size=3)
    calls = [asyncio.create_task(batcher.submit([i])) for i in range(5)]
    await infer.started.wait()
    infer.gate.set()
    assert await asyncio.gather(*calls) == [[0], [2], [4], [6], [8]]
    assert infer.batches == [[0], [1, 2, 3], [4]]


async def test_units_of_one_request_share_batches_with_others() -> None:
    """A request with many units is cut where a batch is full; the rest goes with the next."""
    infer = Recorder()
    infer.gate.set()
    batcher = Batcher(infer, max_batch_size=4)
    results = await asyncio.gather(batcher.submit([1, 2, 3, 4, 5]), batcher.submit([6]))
    assert results == [[2, 4, 6, 8, 10], [12]]
    assert infer.batches == [[1, 2, 3, 4], [5, 6]]


async def test_wait_lets_an_idle_batch_fill() -> None:
    """With a wait time, an idle node collects what comes within it, and starts early when full."""
    infer = Recorder()
    infer.gate.set()
    batcher = Batcher(infer, max_batch_size=2, batch_wait_timeout_s=0.05)
    assert await asyncio.gather(*(batcher.submit([i]) for i in range(3))) == [[0], [2], [4]]
    assert infer.batches == [[0, 1], [2]]


async def test_failure_belongs_to_its_batch() -> None:
    """Every caller of a failed batch gets the error; the next batch works."""
    infer = Recorder()
    infer.gate.set()
    batcher = Batcher(infer)
    with pytest.raises(ValueError, match="unlucky"):
        await batcher.submit([12, 13])
    assert await batcher.submit([14]) == [28]


async def test_wrong_number_of_parts_fails() -> None:
    """A capability that loses a unit is found out instead of mixing up results."""

    async def forgetful(units: Sequence[int]) -> Sequence[int]:
        return units[1:]

    with pytest.raises(RuntimeError, match="0 parts for 1 units"):
        await Batcher(forgetful).submit([1])


async def test_cancelled_units_are_not_computed() -> None:
    """A caller that went away costs nothing once its turn comes."""
    infer = Recorder()
    batcher = Batcher(infer, max_batch_size=2)
    first = asyncio.create_task(batcher.submit([1]))
    await infer.started.wait()
    gone = asyncio.create_task(batcher.submit([2]))
    stays = asyncio.create_task(batcher.submit([3]))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    infer.gate.set()
    assert [await first, await stays] == [[2], [6]]
    assert infer.batches == [[1], [3]]


async def test_limits_change_while_running() -> None:
    """New limits hold from the next batch on."""
    infer = Recorder()
    batcher = Batcher(infer, max_batch_size=1)
    calls = [asyncio.create_task(batcher.submit([i])) for i in range(5)]
    await infer.started.wait()
    batcher.max_batch_size = 4
    infer.gate.set()
    await asyncio.gather(*calls)
    assert infer.batches == [[0], [1, 2, 3, 4]]


async def test_claimed_slot_keeps_batches_waiting() -> None:
    """Who claims an idle node has it alone; what comes meanwhile makes one batch after it."""
    infer = Recorder()
    infer.gate.set()
    batcher = Batcher(infer)
    assert batcher.claim()
    assert not batcher.claim()
    calls = [asyncio.create_task(batcher.submit([i])) for i in range(3)]
    await asyncio.sleep(0)
    assert infer.batches == []
    batcher.release()
    assert await asyncio.gather(*calls) == [[0], [2], [4]]
    assert infer.batches == [[0, 1, 2]]


async def test_no_claim_past_waiting_units() -> None:
    """Nobody overtakes units that wait, and with a wait time all go through the queue."""
    infer = Recorder()
    batcher = Batcher(infer)
    first = asyncio.create_task(batcher.submit([1]))
    second = asyncio.create_task(batcher.submit([2]))
    await infer.started.wait()
    batcher.max_concurrent_batches = 2
    assert not batcher.claim()
    infer.gate.set()
    assert [await first, await second] == [[2], [4]]
    batcher.batch_wait_timeout_s = 0.01
    assert not batcher.claim()
