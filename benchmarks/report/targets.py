"""The targets: ratios within one run on one machine, and whether they are met.

Absolute figures say more about the machine than about the service, so no target is one, save the
overhead of a request, which hardly depends on what the request computes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from benchmarks.load.run import Run
from benchmarks.photos import Photo, Workload

Relation = Literal["at most", "at least"]
Verdict = Literal["pass", "short", "void"]
"""``void`` is for a run that can't be believed, whatever its figures."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """All runs of one workload.

    ``…_all`` runs use the whole machine, ``…_one`` runs have one photo in work at a time.
    """

    photo: Photo
    bare_all: Run
    bare_one: Run
    plain_all: Run
    plain_one: Run
    tuned_all: Run
    served_all: Run
    served_one: Run
    handles_all: Run

    @property
    def overhead_ms(self) -> float:
        """What serving adds to the median latency of one photo at a time."""
        return self.served_one.p50_ms - self.bare_one.p50_ms

    @property
    def runs(self) -> dict[str, Run]:
        """All runs by the names that they have here."""
        return {
            field.name: value
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), Run)
        }

    def to_json(self) -> dict[str, Any]:
        """Return photo and runs as plain data."""
        runs = {name: run.to_json() for name, run in self.runs.items()}
        width, height = self.photo.size
        photo = {
            "source": self.photo.source,
            "width": width,
            "height": height,
            "bytes": len(self.photo.data),
        }
        return {"photo": photo, "overhead_ms": round(self.overhead_ms, 2), "runs": runs}


@dataclass(frozen=True, slots=True)
class Target:
    """One target: what is measured on which workload, and its limit."""

    title: str
    workload: Workload
    measure: Callable[[Comparison], float]
    relation: Relation
    limit: float
    unit: str = "×"

    def verdict(self, value: float) -> Verdict:
        """Judge a value."""
        met = value <= self.limit if self.relation == "at most" else value >= self.limit
        return "pass" if met else "short"


@dataclass(frozen=True, slots=True)
class Judged:
    """A target, what was measured for it, and the verdict."""

    target: Target
    value: float
    verdict: Verdict

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "title": self.target.title,
            "workload": self.target.workload,
            "relation": self.target.relation,
            "limit": self.target.limit,
            "unit": self.target.unit,
            "value": round(self.value, 3),
            "verdict": self.verdict,
        }


def _rate(run: Callable[[Comparison], Run]) -> Callable[[Comparison], float]:
    """Make the measure: images/s of cl-ml-serve over those of another subject."""
    return lambda found: found.served_all.images_per_s / run(found).images_per_s


TARGETS: tuple[Target, ...] = (
    Target(
        "CPU per photo, of bare",
        "small",
        lambda found: found.served_all.cpu_ms_per_photo / found.bare_all.cpu_ms_per_photo,
        "at most",
        1.5,
    ),
    Target("images/s, of bare", "small", _rate(lambda found: found.bare_all), "at least", 0.6),
    Target(
        "images/s, of plain FastAPI",
        "small",
        _rate(lambda found: found.plain_all),
        "at least",
        1.3,
    ),
    Target(
        "added latency, one client, median",
        "small",
        lambda found: found.overhead_ms,
        "at most",
        12.0,
        " ms",
    ),
    Target("images/s, of bare", "large", _rate(lambda found: found.bare_all), "at least", 0.7),
    Target(
        "images/s, of plain FastAPI",
        "large",
        _rate(lambda found: found.plain_all),
        "at least",
        2.5,
    ),
)


def judge(comparisons: Mapping[Workload, Comparison], *, valid: bool = True) -> list[Judged]:
    """Judge every target whose workload was measured, in the order of ``TARGETS``."""
    judged: list[Judged] = []
    for target in TARGETS:
        if target.workload in comparisons:
            value = target.measure(comparisons[target.workload])
            judged.append(Judged(target, value, target.verdict(value) if valid else "void"))
    return judged
