"""All comparisons of single capabilities, one after the other.

Models that can't be fetched everywhere are replaced by stand-ins with their architecture and
made-up weights, which take as long: the same on every machine, and labelled in the report.
"""

import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks.capabilities import analyze, exif, hls, thumbnail
from benchmarks.capabilities.ratio import Ratio
from benchmarks.layouts import DEFAULT_CATALOGUE, GraphFile, installed_path
from benchmarks.load.child import Window, in_process
from benchmarks.load.cpu import pss_bytes
from benchmarks.progress import Steps
from benchmarks.stand_ins.cli import write_all
from benchmarks.stand_ins.graph import with_stand_ins
from benchmarks.subjects.graph import graph_service
from benchmarks.workloads.prepare import make_photos
from deployments.runtime.models import ModelStore, load_catalogue

START_S = 60.0
"""Expected seconds to write and install the stand-ins and to start and end a stack."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to measure."""

    config: Path
    rounds: int = 15
    exif_photos: int = 200
    video_s: float = 30.0
    video_rounds: int = 3

    @property
    def total_s(self) -> float:
        """About how long it takes."""
        return START_S + 1.5 * self.rounds + 0.3 * self.exif_photos + 8 * self._video_s

    @property
    def _video_s(self) -> float:
        return self.video_s * self.video_rounds / 4


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came out.

    ``stand_ins`` are the names of those that took part. ``memory_bytes`` is that of all processes
    of the service after it has answered for every model, with shared pages counted once.
    """

    ratios: list[Ratio]
    stand_ins: list[str]
    memory_bytes: int


def compare(plan: Plan, steps: Steps) -> Outcome:
    """Measure everything."""
    found: list[Ratio] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cl-serve-bench-")))
        steps.show("making photos and stand-ins")
        photos = make_photos(plan.config, ("small", "large"))
        config, names = in_process(install_stand_ins, None, plan.config, folder)

        with steps.step("thumbnail", plan.rounds * 0.5):
            store = ModelStore(load_catalogue(DEFAULT_CATALOGUE))
            large = photos["large"].data
            found.append(in_process(thumbnail.compare, None, store, large, plan.rounds))

        models_s: dict[str, dict[str, float]] = {}
        for name, photo in photos.items():
            with steps.step(f"bare models, {name} photo", plan.rounds * 0.4):
                file = GraphFile(config)
                measured = in_process(analyze.bare_models_s, None, file, photo.data, plan.rounds)
                models_s[name] = measured

        steps.show("starting cl-ml-serve")
        service = stack.enter_context(graph_service(config))
        url = service.url
        for name, photo in photos.items():
            with steps.step(f"analyze, {name} photo", plan.rounds * 0.5):
                ours_s = analyze.served_s(url, photo.data, plan.rounds)
            found.append(analyze.compare(f"analyze, {name} photo", ours_s, models_s[name]))
        memory_bytes = pss_bytes(service.processes)
        with steps.step("exif", 0.3 * plan.exif_photos):
            found.append(exif.compare(url, exif.make_photos(folder, plan.exif_photos)))
        with steps.step("HLS", plan.video_s * plan.video_rounds):
            hls.make_video(folder / "video.mp4", plan.video_s)
            video = folder / "video.mp4"
            found.append(hls.compare(url, service.processes, video, plan.video_rounds))
        steps.show("ending cl-ml-serve")
    return Outcome(found, names, memory_bytes)


def install_stand_ins(_window: Window, config: Path, folder: Path) -> tuple[Path, list[str]]:
    """Write and install the stand-ins, and a YAML file of the graph that uses them."""
    raw: dict[str, Any] = yaml.safe_load(config.read_text(encoding="utf-8"))
    changed, names = with_stand_ins(raw, write_all(folder))
    args = changed["applications"][0]["args"]
    args["outputs"] = {"folder": str(folder / "outputs")}
    path = folder / "serve.yaml"
    path.write_text(yaml.safe_dump(changed, sort_keys=False), encoding="utf-8")
    store = GraphFile(path).store()
    for name in names:
        installed_path(store, name)
    return path, names
