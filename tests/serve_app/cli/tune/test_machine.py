"""What this machine has: never more than there is."""

import os

import psutil

from serve_app.cli.memory import STACK_MB
from serve_app.cli.tune import machine


def test_cores() -> None:
    """A process that is bound to one core has one."""
    before = os.sched_getaffinity(0)
    assert len(before) == machine.cores()
    os.sched_setaffinity(0, {min(before)})
    try:
        assert 1 == machine.cores()
    finally:
        os.sched_setaffinity(0, before)


def test_memory() -> None:
    """Replicas get a part of what is there, Ray and Serve taken off."""
    total_mb = psutil.virtual_memory().total / 1e6
    assert -STACK_MB <= machine.memory_for_replicas_mb() <= 0.9 * total_mb - STACK_MB


def test_busy_share() -> None:
    """It is a share of the whole machine."""
    assert 0 <= machine.busy_share() <= 1
