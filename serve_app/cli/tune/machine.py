"""What this machine has for a stack: cores, memory, and whether somebody else uses them."""

import os

import psutil
from ray._private.utils import estimate_available_memory

from serve_app.cli.memory import STACK_MB

MEMORY_SHARE = 0.9
"""Of what is free: the rest is for photos in work, and for what estimates are wrong by."""

BUSY_SHARE = 0.1
"""Of the machine: others that use more than this spoil figures by more than they differ."""

_LOOK_S = 0.5


def cores() -> int:
    """How many cores this process may use; ``taskset`` and containers can give it fewer."""
    return len(os.sched_getaffinity(0))


def memory_for_replicas_mb() -> float:
    """How much all replicas together may take, in MB, when Ray and Serve are there as well.

    Ray knows the limits of containers, which the system's own figures leave out.
    """
    return MEMORY_SHARE * estimate_available_memory() / 1e6 - STACK_MB


def busy_share() -> float:
    """Return the share of the machine, 0 to 1, that was in use during the last half second."""
    return psutil.cpu_percent(_LOOK_S) / 100
