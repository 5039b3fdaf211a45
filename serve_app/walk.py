"""Walking a directed acyclic graph concurrently: each step starts when what it needs is done.

The pipeline walks segments over handles with it, and a host walks the nodes of one segment.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

KeyT = TypeVar("KeyT")


async def walk(
    needs: Mapping[KeyT, Sequence[KeyT]],
    step: Callable[[KeyT, Mapping[KeyT, Any]], Awaitable[Any]],
) -> dict[KeyT, Any]:
    """Run ``step(key, results of its needs)`` for every key; independent keys run at once.

    Args:
        needs: key to the keys that it waits for, in topological order.
        step: must not raise for an expected failure; return it as a value instead. When one
            step raises, the others are cancelled and the error is raised here.

    Returns:
        Key to what its step returned.

    """
    if len(needs) == 1:
        (only,) = needs
        return {only: await step(only, {})}

    tasks: dict[KeyT, asyncio.Task[Any]] = {}

    async def run(key: KeyT) -> Any:  # noqa: ANN401 - results are of any type
        return await step(key, {need: await tasks[need] for need in needs[key]})

    async with asyncio.TaskGroup() as group:
        for key in needs:
            tasks[key] = group.create_task(run(key))
    return {key: task.result() for key, task in tasks.items()}
