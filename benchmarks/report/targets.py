"""The numbers to reach, and whether a run reaches them.

Nearly all are ratios within one run on one machine: absolute figures say more about the machine
than about the service.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from benchmarks.results import Key, NotMeasuredError, Results
from benchmarks.suite import (
    ALL_CORES,
    BARE,
    BENTOML,
    BUSY,
    CLOSED,
    FEW,
    LITSERVE,
    MANY,
    ONE,
    ONE_CORE,
    ONE_CORE_PI,
    OURS,
    PLAIN,
    SEPARATE,
)
from benchmarks.workloads.photos import PHOTOS

Relation = Literal["at most", "at least"]
Verdict = Literal["pass", "short", "void"]
"""``void`` is for a figure that is missing or can't be believed."""


@dataclass(frozen=True, slots=True)
class Target:
    """One number to reach: what it is of, with which workload, how it is derived, and its limit.

    ``group`` brings together in reports what answers one question. Where ``subject`` is given, it
    is judged only if that takes part.
    """

    group: str
    title: str
    workload: str
    measure: Callable[[Results], float]
    relation: Relation
    limit: float
    unit: str = "×"
    subject: str = ""

    def verdict(self, value: float) -> Verdict:
        """Judge a value."""
        met = value <= self.limit if self.relation == "at most" else value >= self.limit
        return "pass" if met else "short"


@dataclass(frozen=True, slots=True)
class Judged:
    """A target, what was measured for it, and the verdict; ``why`` says what makes it void."""

    target: Target
    value: float | None
    verdict: Verdict
    why: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        target = self.target
        return {
            "id": f"{target.title} | {target.workload}",
            "group": target.group,
            "title": target.title,
            "workload": target.workload,
            "relation": target.relation,
            "limit": target.limit,
            "unit": target.unit,
            "value": None if self.value is None else round(self.value, 3),
            "verdict": self.verdict,
            "why": self.why,
        }


def judge(results: Results) -> list[Judged]:
    """Judge every target whose workload and subject take part, in the order of ``TARGETS``."""
    return [
        _judged(target, results)
        for target in TARGETS
        if target.workload in {"", *results.workloads} and target.subject in {"", *results.subjects}
    ]


def _judged(target: Target, results: Results) -> Judged:
    try:
        value = target.measure(results)
    except NotMeasuredError as error:
        return Judged(target, None, "void", str(error))
    if results.doubts:
        return Judged(target, value, "void", results.doubts[0])
    return Judged(target, value, target.verdict(value))


def _rate_of_bare(workload: str) -> Callable[[Results], float]:
    """Images/s with 8 clients over those of bare processes on all cores."""

    def measure(results: Results) -> float:
        bare = results.run(BARE, workload, ALL_CORES.title)
        return results.run(OURS, workload, BUSY.title).images_per_s / bare.images_per_s

    return measure


def _rate_of_best(peer: str, workload: str) -> Callable[[Results], float]:
    """Images/s with 8 clients over the most of a peer, with whatever number suits it best."""

    def measure(results: Results) -> float:
        loads = {BUSY.title} | {
            load.title for load in CLOSED if Key(peer, workload, load.title) in results.runs
        }
        best = max(results.run(peer, workload, load).images_per_s for load in loads)
        return results.run(OURS, workload, BUSY.title).images_per_s / best

    return measure


def _cpu(subject: str, workload: str) -> Callable[[Results], float]:
    """CPU per photo of all processes of a subject, over that of bare."""

    def measure(results: Results) -> float:
        bare = results.run(BARE, workload, ALL_CORES.title)
        run = results.run(subject, workload, BUSY.title)
        return run.cpu_ms_per_photo / bare.cpu_ms_per_photo

    return measure


def _overhead_ms(workload: str) -> Callable[[Results], float]:
    """What serving adds to the median latency of one client."""

    def measure(results: Results) -> float:
        bare = results.run(BARE, workload, ONE.title)
        return results.run(OURS, workload, ONE.title).p50_ms - bare.p50_ms

    return measure


def _held(workload: str) -> Callable[[Results], float]:
    """Images/s with 64 clients over those with 8."""

    def measure(results: Results) -> float:
        few = results.run(OURS, workload, BUSY.title)
        return results.run(OURS, workload, MANY.title).images_per_s / few.images_per_s

    return measure


def _tail(workload: str) -> Callable[[Results], float]:
    """99th percentile of the latency over its mean, with 64 clients."""

    def measure(results: Results) -> float:
        run = results.run(OURS, workload, MANY.title)
        return run.percentile_ms(99) / run.mean_ms

    return measure


def _failed(workload: str) -> Callable[[Results], float]:
    def measure(results: Results) -> float:
        return results.run(OURS, workload, MANY.title, with_errors=True).errors

    return measure


def _per_second(subject: str) -> Callable[[Results], float]:
    return lambda results: results.run(subject, "large", FEW.title).images_per_s


def _graph(model: str, field: str) -> Callable[[Results], float]:
    return lambda results: float(results.graph(model)[field])


_LIMIT_OF_PLAIN = {"small": 1.8, "large": 3.0}
_TAIL_LIMIT = 3.0
"""With 64 clients the mean is given by the throughput. A tail of three times that is a queue that
lets nobody starve."""


def _of_photo(name: str) -> list[Target]:
    return [
        Target("cost", "CPU per photo, of bare", name, _cpu(OURS, name), "at most", 1.2),
        Target(
            "cost",
            "CPU per photo, of bare, a deployment per model",
            name,
            _cpu(SEPARATE, name),
            "at most",
            1.4,
        ),
        Target(
            "cost",
            "added latency, one client, median",
            name,
            _overhead_ms(name),
            "at most",
            8,
            " ms",
        ),
        Target("throughput", "images/s, of bare", name, _rate_of_bare(name), "at least", 0.75),
        Target(
            "throughput",
            "images/s, of plain FastAPI",
            name,
            _rate_of_best(PLAIN, name),
            "at least",
            _LIMIT_OF_PLAIN[name],
        ),
        Target("load", "images/s at 64 clients, of 8", name, _held(name), "at least", 0.9),
        Target("load", "failed requests at 64 clients", name, _failed(name), "at most", 0, ""),
        Target("load", "p99 at 64 clients, of the mean", name, _tail(name), "at most", _TAIL_LIMIT),
    ]


def _ahead(name: str) -> list[Target]:
    return [
        Target("throughput", f"images/s, of {peer}", name, _rate_of_best(peer, name), "at least", 1)
        for peer in (LITSERVE, BENTOML)
    ]


def _one_core(subject: str) -> Target:
    title = f"photos/s on one core, {subject.rpartition(' ')[2]}"
    return Target("one core", title, "large", _per_second(subject), "at least", 5, "", subject)


TARGETS: Sequence[Target] = (
    *(target for name in _LIMIT_OF_PLAIN for target in _of_photo(name)),
    *(target for name in PHOTOS for target in _ahead(name)),
    _one_core(ONE_CORE_PI),
    _one_core(ONE_CORE),
    Target(
        "models",
        "MobileFaceNet, of the straight conversion",
        "",
        _graph("mobilefacenet", "ratio"),
        "at least",
        1.5,
    ),
    Target(
        "models", "DINOv2, of the straight export", "", _graph("dinov2", "ratio"), "at least", 1.7
    ),
    Target(
        "models",
        "DINOv2, cosine to the straight export",
        "",
        _graph("dinov2", "cosine"),
        "at least",
        0.99,
        "",
    ),
)
"""All numbers to reach; the order is that of reports."""
