"""How much faster one graph is than another, on this machine, as it is just now."""

import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deployments.runtime.onnx_session import OnnxSession

ROUNDS = 30
MAX_TIME_S = 10.0
"""Of all rounds together, after the first few: a large model on a small machine takes a second."""
LEAST_ROUNDS = 5


def speed_ratio(base: Path, other: Path, rows: Sequence[NDArray[np.float32]]) -> float:
    """Measure how many times as fast ``other`` is as ``base``, with one row and one thread.

    Both run in turn, so that whatever else the machine does meets both alike. The processor's time
    is compared, since that of the clock would count the waiting for other programs.

    Args:
        base: the graph to compare with.
        other: the graph in question, of the same input.
        rows: what to run on, each of a graph's input without the batch; at least one.

    Returns:
        The ratio of the medians.

    """
    sessions = [OnnxSession(path, provider="cpu") for path in (base, other)]
    for session in sessions:
        session.warm_up()
    times_s: list[list[float]] = [[], []]
    began_s = time.monotonic()
    for i in range(ROUNDS):
        if i >= LEAST_ROUNDS and time.monotonic() - began_s > MAX_TIME_S:
            break
        for session, taken_s in zip(sessions, times_s, strict=True):
            start_s = time.process_time()
            session.run(rows[i % len(rows)][None])
            taken_s.append(time.process_time() - start_s)
    before_s, after_s = (statistics.median(taken_s) for taken_s in times_s)
    return before_s / after_s
