"""The figures of one measurement."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class Timing:
    """How to measure.

    Attributes:
        clients: photos in work at once: each client sends when it has its last answer.
        warm_up_s: seconds before the window.
        seconds: length of the window.
        rate_per_s: where it is not 0, requests are sent at this rate whether others are answered
            or not, and ``clients`` means nothing.
        pause_s: seconds that bare processes sleep before each photo, in no figure of theirs.

    """

    clients: int
    warm_up_s: float
    seconds: float
    rate_per_s: float = 0.0
    pause_s: float = 0.0


@dataclass(frozen=True)
class Run:
    """One measurement.

    Attributes:
        clients: how many photos were in work at once; 0 at a fixed rate.
        elapsed_s: length of the measured window; at a fixed rate until the last answer.
        latencies_ms: of every photo that was finished within the window; at a fixed rate, of every
            one that was to be sent within it, from the moment when it was to be sent.
        stages_ms: mean milliseconds of each stage of a photo, as the subject itself reports them.
        cpu_s: CPU seconds (user and system) in the window, by process name; empty where not
            measured. The load generator's are never in it.
        others_share: share of the machine that others used in the window, 0 to 1.
        refused: answers 503 with ``Retry-After`` in the window: back-pressure, no photo done.
        errors: all other answers but 200, and broken connections.
        first_error: the first of these, in words.

    """

    clients: int
    elapsed_s: float
    latencies_ms: Sequence[float]
    stages_ms: Mapping[str, float] = field(default_factory=dict)
    cpu_s: Mapping[str, float] = field(default_factory=dict)
    others_share: float = 0.0
    refused: int = 0
    errors: int = 0
    first_error: str = ""

    @property
    def images_per_s(self) -> float:
        """Photos finished per second."""
        return len(self.latencies_ms) / self.elapsed_s

    @property
    def cpu_ms_per_photo(self) -> float:
        """CPU milliseconds per photo, over all processes; 0 without a photo."""
        return 1000 * sum(self.cpu_s.values()) / max(len(self.latencies_ms), 1)

    @property
    def mean_ms(self) -> float:
        """Mean latency."""
        return float(np.mean(self.latencies_ms)) if len(self.latencies_ms) else 0.0

    def percentile_ms(self, percent: float) -> float:
        """Return a percentile of the latency, between samples linearly; 0 without a photo."""
        if not len(self.latencies_ms):
            return 0.0
        return float(np.percentile(self.latencies_ms, percent))

    @property
    def p50_ms(self) -> float:
        """Median latency."""
        return self.percentile_ms(50)

    @property
    def p95_ms(self) -> float:
        """Latency that one photo in twenty exceeds."""
        return self.percentile_ms(95)

    def to_json(self) -> dict[str, Any]:
        """Return the figures, and every percentile of the latency from 0 to 100, as plain data."""
        return {
            "clients": self.clients,
            "elapsed_s": round(self.elapsed_s, 3),
            "photos": len(self.latencies_ms),
            "images_per_s": round(self.images_per_s, 2),
            "cpu_ms_per_photo": round(self.cpu_ms_per_photo, 2),
            "mean_ms": round(self.mean_ms, 2),
            "p50_ms": round(self.p50_ms, 2),
            "p95_ms": round(self.p95_ms, 2),
            "p99_ms": round(self.percentile_ms(99), 2),
            "refused": self.refused,
            "errors": self.errors,
            "first_error": self.first_error,
            "stages_ms": {name: round(ms, 2) for name, ms in self.stages_ms.items()},
            "others_share": round(self.others_share, 3),
            "cpu_s": {name: round(s, 3) for name, s in self.cpu_s.items()},
            "percentiles_ms": [round(self.percentile_ms(i), 1) for i in range(101)],
        }


def combine(runs: Sequence[Run]) -> Run:
    """Add up runs that happened side by side, each in a process of its own.

    Each process ends with a whole photo, so their windows differ by less than one photo; the
    rates are added, not the photos divided by the longest window.

    Args:
        runs: at least one.

    """
    latencies = [ms for run in runs for ms in run.latencies_ms]
    rate = sum(run.images_per_s for run in runs)
    cpu_s: dict[str, float] = {}
    for run in runs:
        for name, seconds in run.cpu_s.items():
            cpu_s[name] = cpu_s.get(name, 0.0) + seconds
    names = {name for run in runs for name in run.stages_ms}
    stages = {
        name: float(np.mean([run.stages_ms[name] for run in runs if name in run.stages_ms]))
        for name in sorted(names)
    }
    elapsed_s = len(latencies) / rate if rate else max(run.elapsed_s for run in runs)
    return Run(sum(run.clients for run in runs), elapsed_s, latencies, stages, cpu_s)
