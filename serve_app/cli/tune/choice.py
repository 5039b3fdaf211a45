"""Which of several settings is best: what is wanted of a machine, and when a change is worth it."""

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import TypeVar

from serve_app.cli.tune.crew import Figures

NOISE = 1.05
"""A change must pay by more than figures differ between two runs of the same: under 5 %."""

SLOWEST = 2.0
"""Times the shortest 95th percentile; what lets some wait for longer is no choice. With the same
number of clients everywhere the mean latency follows from the throughput, this one does not."""

T = TypeVar("T")


class Goal(StrEnum):
    """What a machine is for."""

    THROUGHPUT = "throughput"
    """As many requests a second as it can take from several clients."""
    LATENCY = "latency"
    """The shortest answer to somebody who is alone with it."""

    def score(self, figures: Figures) -> float:
        """Rate figures; more is better."""
        return figures.per_s if self is Goal.THROUGHPUT else 1000 / figures.p50_ms

    def say(self, figures: Figures) -> str:
        """Write the figure that counts."""
        if self is Goal.THROUGHPUT:
            return f"{figures.per_s:.1f}/s"
        return f"{figures.p50_ms:.1f} ms"


def choose(
    measured: Mapping[T, Figures],
    current: T | None,
    goal: Goal,
    cost: Callable[[T], float],
) -> T:
    """Choose the best; of those that are as good as the best, the cheapest.

    Args:
        measured: what there is to choose from, at least one.
        current: what is kept unless another one is better by more than noise; None where it could
            not be measured.
        goal: what counts.
        cost: less is better.

    """
    bound_ms = SLOWEST * min(figures.p95_ms for figures in measured.values())
    allowed = {key: figures for key, figures in measured.items() if figures.p95_ms <= bound_ms}
    needed = max(map(goal.score, allowed.values())) / NOISE
    if current in allowed:
        if goal.score(allowed[current]) >= needed:
            return current
        needed = max(needed, goal.score(allowed[current]) * NOISE)
    good = [key for key, figures in allowed.items() if goal.score(figures) >= needed]
    return min(good, key=cost)


def ranked(measured: Mapping[T, Figures], goal: Goal) -> list[T]:
    """Sort from best to worst."""
    return sorted(measured, key=lambda key: goal.score(measured[key]), reverse=True)
