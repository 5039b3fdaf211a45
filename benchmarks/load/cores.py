"""A part of this machine as if it were all: one core for a while."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil

from benchmarks.errors import BenchmarkError
from benchmarks.load.cpu import Group, name_of


@contextmanager
def one_core() -> Iterator[int]:
    """Bind this thread and every process that it starts meanwhile to one core, and name it."""
    allowed = os.sched_getaffinity(0)
    core = max(allowed)
    os.sched_setaffinity(0, {core})
    try:
        yield core
    finally:
        os.sched_setaffinity(0, allowed)


def check_bound(group: Group, core: int) -> None:
    """Make sure that every process of a group may use that core only.

    Raises:
        BenchmarkError: one of them has broken out.

    """
    for process in group():
        with suppress(psutil.Error):  # it has ended meanwhile
            if process.cpu_affinity() != [core]:
                raise BenchmarkError(
                    f"{name_of(process)} runs on cores {process.cpu_affinity()} and was to stay "
                    f"on core {core}",
                )
