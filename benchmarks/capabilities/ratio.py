"""A ratio of two medians, measured alternately."""

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.report.targets import Relation, Verdict


@dataclass(frozen=True, slots=True)
class Ratio:
    """One comparison: medians of both sides in seconds, and the target for their ratio.

    ``faster`` ratios are peer over ours, to be at least the limit; ``slower`` ones ours over the
    peer, to be at most the limit.
    """

    title: str
    peer: str
    ours_s: float
    peer_s: float
    relation: Relation
    limit: float

    @property
    def value(self) -> float:
        """The ratio that the target is about."""
        if self.relation == "at least":
            return self.peer_s / self.ours_s
        return self.ours_s / self.peer_s

    @property
    def verdict(self) -> Verdict:
        """Whether the target is met."""
        met = self.value >= self.limit if self.relation == "at least" else self.value <= self.limit
        return "pass" if met else "short"

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {**asdict(self), "value": round(self.value, 3), "verdict": self.verdict}


def alternate(
    ours: Callable[[], object],
    peer: Callable[[], object],
    rounds: int,
) -> tuple[float, float]:
    """Run both in turn, each once unmeasured first; return the median seconds of each."""
    ours_s: list[float] = []
    peer_s: list[float] = []
    for i in range(rounds + 1):
        for function, times in ((ours, ours_s), (peer, peer_s)):
            began_s = time.perf_counter()
            function()
            if i:
                times.append(time.perf_counter() - began_s)
    return statistics.median(ours_s), statistics.median(peer_s)
