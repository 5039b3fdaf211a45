"""The simulation of batching policies."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from benchmarks.studies.policies import BatchFirst, measure


async def test_batch_first_forms_batches_while_the_slot_is_taken() -> None:
    """As Ray Serve's does: units that come one by one stay batches of one."""
    batches: list[list[Any]] = []
    release = asyncio.Event()

    async def model(units: Sequence[Any]) -> Sequence[Any]:
        batches.append(list(units))
        await release.wait()
        return [unit * 10 for unit in units]

    policy = BatchFirst(model, wait_s=0.0)
    answers: list[asyncio.Task[Any]] = []
    for unit in range(3):
        answers.append(asyncio.create_task(policy.submit(unit)))
        await asyncio.sleep(0.01)
    release.set()
    assert [0, 10, 20] == await asyncio.gather(*answers)
    assert [[0], [1], [2]] == batches
    policy.close()


async def test_batch_first_takes_what_comes_within_the_wait() -> None:
    """Units that arrive within the wait go into one batch."""
    sizes: list[int] = []

    async def model(units: Sequence[Any]) -> Sequence[Any]:
        sizes.append(len(units))
        return units

    policy = BatchFirst(model, wait_s=0.05)
    await asyncio.gather(*(policy.submit(unit) for unit in range(3)))
    assert [3] == sizes
    policy.close()


@pytest.mark.parametrize("policy", ["batch, then slot", "slot, then batch"])
async def test_both_policies_answer_every_client(policy: str) -> None:
    """A row has figures of whichever policy."""
    row = await measure(policy, wait_s=0.0, clients=2, seconds=0.1)
    assert policy == row["policy"]
    assert row["requests_per_s"] > 0
    assert 1 <= row["mean_batch"] <= 2
