"""A suite is measured to its end, whatever fails in it."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from rich.console import Console

from benchmarks import runner, suite
from benchmarks.errors import BenchmarkError
from benchmarks.load.run import Run, Timing
from benchmarks.progress import steps
from benchmarks.results import Key, Results
from benchmarks.runner import Length, expected_s, measure
from benchmarks.suite import ALL_CORES, BARE, BUSY, FIRST, OURS, PLAIN, STEADY, Load, Task
from benchmarks.workloads.workload import Post, Workload

WORKLOADS = {name: Workload(name, [Post("/", b"")]) for name in ("small", "large")}
LENGTH = Length(1.0, 0.0)


class Made:
    """A subject that measures nothing, and fails where it is told to."""

    def __init__(self, fails: str = "", wrong: str = "") -> None:
        """Fail to measure the workload ``fails``, and give a wrong answer to ``wrong``."""
        self._fails, self._wrong = fails, wrong
        self.timings: list[Timing] = []

    def check(self, workload: Workload, title: str) -> Run | None:
        """Give the run of a first request."""
        if workload.name == self._wrong:
            raise BenchmarkError(f"{title} is wrong")
        return Run(1, 0.1, [100.0])

    def measure(self, workload: Workload, timing: Timing) -> Run:
        """Give ten photos a second."""
        if workload.name == self._fails:
            raise BenchmarkError("no answer")
        self.timings.append(timing)
        return Run(timing.clients, 1.0, [1.0] * 10)


def task(name: str, subject: Made, *loads: Load) -> Task:
    """Make a task that measures both workloads."""

    @contextmanager
    def start() -> Iterator[Made]:
        yield subject

    return Task(name, start, 1.0, tuple((work, load) for work in WORKLOADS for load in loads))


def run(*tasks: Task) -> Results:
    """Measure without a terminal."""
    with steps(Console(quiet=True), expected_s(tasks, LENGTH)) as progress:
        return measure(tasks, WORKLOADS, LENGTH, progress)


@pytest.fixture(autouse=True)
def no_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the graphs of models, which take a minute."""
    monkeypatch.setattr(runner, "GRAPHS", "benchmarks.no_such_module")


def test_everything_is_measured() -> None:
    """Each workload with each load, and the first request of each."""
    found = run(task(BARE, Made(), ALL_CORES), task(OURS, Made(), BUSY))
    assert {
        Key(subject, work, load)
        for work in WORKLOADS
        for subject, load in (
            (BARE, ALL_CORES.title),
            (BARE, FIRST.title),
            (OURS, BUSY.title),
            (OURS, FIRST.title),
        )
    } == set(found.runs)
    assert {"graphs"} == set(found.failures)
    assert 0.0 == found.drift
    assert [] == found.doubts


def test_what_fails_is_noted_and_the_rest_goes_on() -> None:
    """A wrong answer voids a workload, a failed measurement itself, a failed start a subject."""

    @contextmanager
    def broken() -> Iterator[Made]:
        raise BenchmarkError("it did not start")
        yield

    found = run(
        Task(PLAIN, broken, 1.0, (("small", BUSY),)),
        task(BARE, Made(fails="large"), ALL_CORES),
        task(OURS, Made(wrong="small"), BUSY),
    )
    del found.failures["graphs"]
    assert {
        PLAIN: "it did not start",
        f"{BARE} | large | {ALL_CORES.title}": "no answer",
        f"{OURS} | small": f"{OURS} is wrong",
    } == found.failures
    assert Key(OURS, "large", BUSY.title) in found.runs


def test_a_fixed_rate_is_a_share_of_bare() -> None:
    """Half of ten photos a second are five; without bare there is no rate."""
    ours = Made()
    found = run(task(BARE, Made(), ALL_CORES), task(OURS, ours, STEADY))
    assert [5.0, 5.0] == [timing.rate_per_s for timing in ours.timings]
    alone = run(task(OURS, Made(), STEADY))
    assert Key(OURS, "small", STEADY.title) in found.runs
    assert "not measured" in alone.failures[f"{OURS} | small | {STEADY.title}"]


def test_suites() -> None:
    """The full suite has all of the short one, and bare comes first in both."""
    config = suite.PI_FILE
    short, full = suite.short(config), suite.full(config, config)
    assert BARE == short[0].subject == full[0].subject
    both = {task.subject: set(task.measurements) for task in full}
    assert all(set(task.measurements) <= both[task.subject] for task in short)
    assert {task.subject for task in short} < set(both)
