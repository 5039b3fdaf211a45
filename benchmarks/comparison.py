"""The main benchmark: every subject on every workload, one after the other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from benchmarks.answers import check, expected_embedding
from benchmarks.layouts import PHOTOS, ROOT, GraphFile, installed_path
from benchmarks.load.child import Window, in_process
from benchmarks.load.run import Run, Timing
from benchmarks.photos import Photo, Workload, make_photo
from benchmarks.progress import Steps
from benchmarks.report.doubts import digest, doubts
from benchmarks.report.targets import Comparison
from benchmarks.subjects import bare
from benchmarks.subjects.graph import graph_service
from benchmarks.subjects.peer import peer_service
from benchmarks.subjects.service import Service
from deployments.runtime.models import ModelStore, load_catalogue

START_S = 35.0
"""Expected seconds to start and end a stack, for the progress bar."""

_RUNS_PER_WORKLOAD = 8


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure and for how long."""

    config: Path
    workloads: tuple[Workload, ...]
    clients: int
    seconds: float
    warm_up_s: float

    def timing(self, clients: int) -> Timing:
        """How to measure with a number of clients."""
        return Timing(clients, self.warm_up_s, self.seconds)

    @property
    def run_s(self) -> float:
        """One measurement, with its warm-up and the start of its process."""
        return self.seconds + self.warm_up_s + 2

    @property
    def total_s(self) -> float:
        """All of it; one run more than the table has shows how the machine drifted."""
        return (_RUNS_PER_WORKLOAD * len(self.workloads) + 1) * self.run_s + START_S


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came out.

    ``drift`` is by how much bare photos per second changed from the first run to one after all
    others, as a share: what the machine itself, or others on it, did to the figures. ``doubts``
    are reasons not to believe them.
    """

    comparisons: Mapping[Workload, Comparison]
    drift: float
    doubts: Sequence[str]


def prepare(config: Path, workloads: Sequence[Workload]) -> dict[Workload, Photo]:
    """Make the photos; fetches models and portraits that are missing.

    In a process of its own, so that the one that waits during measurements stays small.
    """
    return in_process(_prepare, None, config, tuple(workloads))


def compare(plan: Plan, photos: Mapping[Workload, Photo], steps: Steps) -> Outcome:
    """Measure all subjects; nothing runs at the same time as something else.

    Raises:
        BenchmarkError: a subject failed, or two of them disagree about the photo.

    """
    code = digest(ROOT)
    runs: dict[Workload, dict[str, Run]] = {name: {} for name in photos}
    cores = bare.cores()

    def measure_bare(name: Workload, processes: int) -> Run:
        with steps.step(f"bare, {name} photo, {processes} at once", plan.run_s):
            return bare.measure(plan.config, photos[name].data, plan.timing(processes))

    both = {"all": plan.clients, "one": 1}

    def measure_http(service: Service, key: str, title: str, parts: Mapping[str, int]) -> None:
        for name, photo in photos.items():
            check(service.url, photo.data, expected[name], title)
            for part, clients in parts.items():
                with steps.step(f"{title}, {name} photo, {clients} at once", plan.run_s):
                    run = service.measure(photo.data, plan.timing(clients))
                runs[name][f"{key}_{part}"] = run

    steps.show("computing what is expected")
    expected = {name: expected_embedding(plan.config, photo.data) for name, photo in photos.items()}
    for name in photos:
        runs[name]["bare_all"] = measure_bare(name, cores)
        runs[name]["bare_one"] = measure_bare(name, 1)

    steps.show("starting plain FastAPI")
    with peer_service("plain_fastapi", plan.config) as service:
        measure_http(service, "plain", "plain FastAPI", both)

    steps.show("starting tuned FastAPI")
    with peer_service("tuned_fastapi", plan.config) as service:
        measure_http(service, "tuned", "tuned FastAPI", {"all": plan.clients})

    steps.show("starting cl-ml-serve")
    with graph_service(plan.config) as service:
        measure_http(service, "served", "cl-ml-serve", both)
        for name, photo in photos.items():
            with steps.step(f"cl-ml-serve, {name} photo, over handles", plan.run_s):
                run = service.measure_handles(photo.data, plan.timing(plan.clients))
            runs[name]["handles_all"] = run
        steps.show("ending cl-ml-serve")

    first = next(iter(photos))
    again = measure_bare(first, cores)
    drift = again.images_per_s / runs[first]["bare_all"].images_per_s - 1
    found: dict[Workload, Comparison] = {
        name: Comparison(photo, **runs[name]) for name, photo in photos.items()
    }
    return Outcome(found, drift, doubts(found, drift, code_changed=digest(ROOT) != code))


def _prepare(
    _window: Window,
    config: Path,
    workloads: tuple[Workload, ...],
) -> dict[Workload, Photo]:
    pipeline = bare.FacePipeline(GraphFile(config))
    portraits = ModelStore(load_catalogue(PHOTOS))

    def portrait(name: str) -> Image.Image:
        with Image.open(installed_path(portraits, name)) as stored:
            return stored.convert("RGB")

    return {name: make_photo(name, portrait, pipeline.count_faces) for name in workloads}
