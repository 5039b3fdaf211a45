"""What a run of the benchmarks has measured: figures by subject, workload and load."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from benchmarks.load.run import Run

MAX_OTHERS = 0.05
"""Share of the machine that others may use while something is measured."""

MIN_COSINE = 0.99
"""Between the embeddings of two forms of one model; below it they are two models."""


class Key(NamedTuple):
    """What was measured: who, with what, and how; each in the words that reports use."""

    subject: str
    workload: str
    load: str

    def __str__(self) -> str:
        """Name it in one line: the id of its entry in the JSON."""
        return " | ".join(self)


class NotMeasuredError(Exception):
    """There is no figure that means anything; ``str(error)`` says why."""


@dataclass(slots=True)
class Results:
    """All figures of one run of the benchmarks.

    Attributes:
        workloads: those that take part, by name: plain data that describes each.
        subjects: names of those that take part.
        runs: what was measured.
        failures: why something was not, by subject, or by subject and workload.
        graphs: rows of ``benchmarks.graphs.measure``: model, form, ms_per_image, ratio, cosine.
        memory: outcomes of ``benchmarks.memory`` as plain data, one for each profile.
        drift: by how much bare photos per second changed from the first run to one after all
            others, as a share: what the machine itself, or others on it, did to the figures.
        doubts: reasons not to believe any of it.

    """

    workloads: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    subjects: Sequence[str] = ()
    runs: dict[Key, Run] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    graphs: Sequence[Mapping[str, Any]] = ()
    memory: Sequence[Mapping[str, Any]] = ()
    drift: float = 0.0
    doubts: list[str] = field(default_factory=list)

    def run(self, subject: str, workload: str, load: str, *, with_errors: bool = False) -> Run:
        """Return what was measured.

        Raises:
            NotMeasuredError: it was not, others used the machine meanwhile, or requests failed and
                that is not what is asked about.

        """
        key = Key(subject, workload, load)
        found = self.runs.get(key)
        if found is None:
            places = (subject, f"{subject} | {workload}", str(key))
            reasons = [self.failures[place] for place in places if place in self.failures]
            raise NotMeasuredError(reasons[0] if reasons else f"not measured: {key}")
        if found.errors and not with_errors:
            raise NotMeasuredError(f"{key}: {found.errors} requests failed: {found.first_error}")
        if found.others_share > MAX_OTHERS:
            raise NotMeasuredError(f"{key}: others used {found.others_share:.0%} of the machine")
        return found

    def graph(self, model: str) -> Mapping[str, Any]:
        """Return the row of the fastest form of a model whose output is that of the straight one.

        Args:
            model: how its name begins.

        Raises:
            NotMeasuredError: there is none.

        """
        rows = [row for row in self.graphs if str(row["model"]).startswith(model)]
        if not rows:
            raise NotMeasuredError(self.failures.get("graphs", f"no graph of {model} was measured"))
        equal = [row for row in rows if row["cosine"] >= MIN_COSINE]
        return max(equal or rows, key=lambda row: row["ratio"])

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {
            "workloads": self.workloads,
            "drift": round(self.drift, 3),
            "doubts": self.doubts,
            "failures": self.failures,
            "graphs": list(self.graphs),
            "memory": list(self.memory),
            "runs": [
                {"id": str(key), **key._asdict(), **run.to_json()} for key, run in self.runs.items()
            ],
        }
