"""The figures of one measurement."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class Timing:
    """How to measure: photos in work at once, and seconds before and within the window."""

    clients: int
    warm_up_s: float
    seconds: float


@dataclass(frozen=True)
class Run:
    """One measurement: a number of clients in a closed loop for a number of seconds.

    Attributes:
        clients: how many photos were in work at once.
        elapsed_s: length of the measured window.
        latencies_ms: of every photo that was finished within the window.
        stages_ms: mean milliseconds of each stage of a photo, as the subject itself reports them.
        cpu_s: CPU seconds (user and system) in the window, by process name; empty where not
            measured. The load generator's are never in it.
        others_share: share of the machine that others used in the window, 0 to 1.

    """

    clients: int
    elapsed_s: float
    latencies_ms: Sequence[float]
    stages_ms: Mapping[str, float] = field(default_factory=dict)
    cpu_s: Mapping[str, float] = field(default_factory=dict)
    others_share: float = 0.0

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
        """Return the figures and the raw numbers behind them as plain data."""
        return {
            "clients": self.clients,
            "elapsed_s": round(self.elapsed_s, 3),
            "photos": len(self.latencies_ms),
            "images_per_s": round(self.images_per_s, 2),
            "cpu_ms_per_photo": round(self.cpu_ms_per_photo, 2),
            "mean_ms": round(self.mean_ms, 2),
            "p50_ms": round(self.p50_ms, 2),
            "p95_ms": round(self.p95_ms, 2),
            "stages_ms": {name: round(ms, 2) for name, ms in self.stages_ms.items()},
            "others_share": round(self.others_share, 3),
            "cpu_s": {name: round(s, 3) for name, s in self.cpu_s.items()},
            "latencies_ms": [round(ms, 2) for ms in self.latencies_ms],
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
