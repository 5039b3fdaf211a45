"""Measures a suite: every subject has the machine to itself, one after the other."""

import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks import memory
from benchmarks.errors import BenchmarkError
from benchmarks.layouts import ROOT
from benchmarks.load.child import Window, in_process
from benchmarks.load.run import Timing
from benchmarks.progress import Steps
from benchmarks.report.doubts import digest, doubts
from benchmarks.results import Key, NotMeasuredError, Results
from benchmarks.subjects.graph import GraphService
from benchmarks.suite import ALL_CORES, BARE, FIRST, Load, Subject, Task
from benchmarks.workloads.workload import Workload

GRAPHS = "benchmarks.graphs"
"""The module that compares forms of a model's graph."""

_GRAPHS_S = 60.0
_AROUND_S = 2.0  # to start and end what makes the load


@dataclass(frozen=True, slots=True)
class Length:
    """Seconds of each measurement: the window, and what comes before it."""

    seconds: float
    warm_up_s: float

    @property
    def run_s(self) -> float:
        """All of one measurement."""
        return self.seconds + self.warm_up_s + _AROUND_S


def expected_s(
    tasks: Sequence[Task], length: Length, profiles: Sequence[memory.Profile] = ()
) -> float:
    """About how long ``measure`` takes."""
    runs = sum(len(task.measurements) for task in tasks) + 1
    starts_s = sum(task.start_s for task in tasks) + len(profiles) * memory.EXPECTED_S
    return runs * length.run_s + starts_s + _GRAPHS_S


def measure(
    tasks: Sequence[Task],
    workloads: Mapping[str, Workload],
    length: Length,
    steps: Steps,
    profiles: Sequence[memory.Profile] = (),
) -> Results:
    """Measure everything; what fails is noted, and the rest goes on.

    Args:
        tasks: what to start, and what to measure of it.
        workloads: those of the tasks, by name.
        length: of each measurement.
        steps: is told what goes on.
        profiles: whose memory to measure.

    """
    code = digest(ROOT)
    names = [task.subject for task in tasks]
    runner = _Runner(names, workloads, length, steps)
    for task in tasks:
        runner.measure_task(task)
    runner.measure_graphs()
    runner.measure_memory(profiles)
    bare = next((task for task in tasks if task.subject == BARE), None)
    if bare is not None:
        runner.measure_drift(bare)
    runner.results.doubts = doubts(runner.results, code_changed=digest(ROOT) != code)
    return runner.results


class _Runner:
    """One run of the benchmarks; ``results`` fills up."""

    def __init__(
        self,
        names: Sequence[str],
        workloads: Mapping[str, Workload],
        length: Length,
        steps: Steps,
    ) -> None:
        self._workloads = workloads
        self._length = length
        self._steps = steps
        self.results = Results({name: _described(work) for name, work in workloads.items()}, names)

    def measure_task(self, task: Task) -> None:
        """Start a subject, measure all that is wanted of it, and end it."""
        self._steps.show(f"starting {task.subject}")
        try:
            with task.start() as subject:
                self._steps.advance(task.start_s)
                for name, loads in task.by_workload().items():
                    if self._is_right(task.subject, subject, name):
                        for load in loads:
                            self._measure_load(Key(task.subject, name, load.title), subject, load)
                    else:
                        self._steps.advance(len(loads) * self._length.run_s)
                self._steps.show(f"ending {task.subject}")
        except BenchmarkError as error:
            self.results.failures[task.subject] = str(error)

    def measure_graphs(self) -> None:
        """Compare the forms of models' graphs."""
        with self._steps.step("graphs of models", _GRAPHS_S):
            if importlib.util.find_spec(GRAPHS) is None:
                self.results.failures["graphs"] = f"there is no module {GRAPHS}"
                return
            try:
                self.results.graphs = in_process(_graphs, None)
            except BenchmarkError as error:
                self.results.failures["graphs"] = str(error)

    def measure_memory(self, profiles: Sequence[memory.Profile]) -> None:
        """Measure memory, start and waking of shipped profiles."""
        found: list[dict[str, Any]] = []
        for profile in profiles:
            try:
                found.append(memory.measure_shipped(profile, self._steps).to_json())
            except BenchmarkError as error:
                self.results.failures[f"memory | {profile}"] = str(error)
        self.results.memory = found

    def measure_drift(self, bare: Task) -> None:
        """Measure the first of bare's runs once more."""
        name, load = bare.measurements[0]
        first = self.results.runs.get(Key(BARE, name, load.title))
        if first is None:
            return
        title = f"{BARE}: {name}, once more"
        with self._steps.step(title, self._length.run_s), bare.start() as subject:
            again = subject.measure(self._workloads[name], self._timing(load, name))
        self.results.drift = again.images_per_s / first.images_per_s - 1

    def _is_right(self, title: str, subject: Subject, name: str) -> bool:
        """Send the first request, and note how long it took, or what is wrong with the answer."""
        try:
            first = subject.check(self._workloads[name], title)
        except (BenchmarkError, OSError, EOFError, ValueError) as error:
            self.results.failures[f"{title} | {name}"] = str(error) or repr(error)
            return False
        if first is not None:
            self.results.runs[Key(title, name, FIRST.title)] = first
        return True

    def _measure_load(self, key: Key, subject: Subject, load: Load) -> None:
        workload = self._workloads[key.workload]
        title = f"{key.subject}: {key.workload}, {load.title}"
        with self._steps.step(title, self._length.run_s):
            try:
                timing = self._timing(load, key.workload)
                if load.handles and isinstance(subject, GraphService):
                    self.results.runs[key] = subject.measure_handles(workload, timing)
                else:
                    self.results.runs[key] = subject.measure(workload, timing)
            except (BenchmarkError, NotMeasuredError) as error:
                self.results.failures[str(key)] = str(error)

    def _timing(self, load: Load, workload: str) -> Timing:
        rate = 0.0
        if load.of_bare:
            rate = load.of_bare * self.results.run(BARE, workload, ALL_CORES.title).images_per_s
        length = self._length
        return Timing(load.clients, length.warm_up_s, length.seconds, rate, load.pause_s)


def _graphs(_window: Window) -> list[dict[str, Any]]:
    return importlib.import_module(GRAPHS).measure()


def _described(workload: Workload) -> dict[str, Any]:
    photo = workload.photo
    if photo is None:
        return {"requests": len(workload.posts)}
    return {
        "width": photo.size[0],
        "height": photo.size[1],
        "bytes": len(photo.data),
        "faces": photo.faces,
        "source": photo.source,
    }
