"""The bare subject: what the capabilities cost without any serving at all.

One process per core, each with one thread, from the bytes of a photo to its result. No service on
the same machine and models can be faster, so this is what the others are measured against.
"""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.errors import BenchmarkError
from benchmarks.layouts import FACE_NODES, GraphFile, installed_path
from benchmarks.load.child import Window, in_process, spawn
from benchmarks.load.cpu import CpuMeter
from benchmarks.load.run import Run, Timing, combine
from benchmarks.workloads.photos import Box
from benchmarks.workloads.workload import Workload
from deployments.face_alignment import FaceAlignment
from deployments.face_detection import FaceDetection
from deployments.face_embedding import FaceEmbedding
from deployments.runtime.capability import Capability
from deployments.runtime.picture import Picture
from deployments.runtime.types import DetectedFaces, Media

_CLASSES: tuple[type[Capability[Any, Any]], ...] = (FaceDetection, FaceAlignment, FaceEmbedding)
_START_TIMEOUT_S = 60


class FacePipeline:
    """Detection, alignment and embedding, one after the other in this process."""

    def __init__(self, file: GraphFile) -> None:
        """Load the three capabilities with the models of ``file``, fetching missing ones."""
        store = file.store()
        self.capabilities: list[Capability[Any, Any]] = []
        for node, cls in zip(FACE_NODES, _CLASSES, strict=True):
            capability = cls(file.settings(node, store))
            if capability.model_name is not None:
                installed_path(store, capability.model_name)
            capability.load()
            self.capabilities.append(capability)

    def run(self, picture: Picture, elapsed_ms: dict[str, float] | None = None) -> Any:  # noqa: ANN401 - the last capability's result
        """Compute the result of the last capability; add each one's time to ``elapsed_ms``."""
        known: dict[type, Any] = {Picture: picture}
        for capability in self.capabilities:
            start_s = time.perf_counter()
            inputs = tuple(known[kind] for kind in capability.inputs)
            result = capability.run_batch([(inputs, capability.params())])[0]
            known[capability.result] = result
            if elapsed_ms is not None:
                spent_ms = (time.perf_counter() - start_s) * 1000
                elapsed_ms[capability.name] = elapsed_ms.get(capability.name, 0.0) + spent_ms
        return known[self.capabilities[-1].result]

    def boxes(self, data: bytes) -> list[Box]:
        """Run detection alone and return the boxes of the faces, normalised."""
        detection = self.capabilities[0]
        found = detection.run_batch([((Picture(Media(data)),), detection.params())])[0]
        assert isinstance(found, DetectedFaces)  # noqa: S101 - narrows the type
        boxes = [face.box for face in found.faces]
        return [(box.x1, box.y1, box.x2, box.y2) for box in boxes]

    def embeddings(self, data: bytes) -> list[NDArray[np.float32]]:
        """Embed every face of a photo: (D,) of length 1 each."""
        found = self.run(Picture(Media(data)))
        return [np.asarray(face.embedding, np.float32) for face in found.faces]


@dataclass(frozen=True, slots=True)
class Bare:
    """The pipeline with the models of a YAML file of the graph, in processes of its own."""

    config: Path

    def check(self, workload: Workload, title: str) -> Run | None:
        """Nothing: what the others are compared with is its own answer."""

    def measure(self, workload: Workload, timing: Timing) -> Run:
        """Measure one process for each of the clients, side by side."""
        if workload.photo is None:
            raise BenchmarkError(f"bare processes do not take {workload.name}")
        return measure(self.config, workload.photo.data, timing)


def measure(config: Path, photo: bytes, timing: Timing) -> Run:
    """Measure processes side by side, one for each of the clients, each in a loop of its own."""
    barrier = spawn.Barrier(timing.clients, timeout=_START_TIMEOUT_S)
    meter = CpuMeter(list)  # all processes are this one's children; it sees what others use
    with ThreadPoolExecutor(timing.clients) as threads:
        pending = [
            threads.submit(in_process, _loop, reads, config, photo, barrier, timing)
            for reads in (meter, *[None] * (timing.clients - 1))
        ]
        run = combine([future.result() for future in pending])
    return replace(run, others_share=meter.others_share)


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0))


def _loop(
    window: Window,
    config: Path,
    photo: bytes,
    barrier: Barrier,
    timing: Timing,
) -> Run:
    pipeline = FacePipeline(GraphFile(config))
    media = Media(photo)
    stages_ms: dict[str, float] = {}
    latencies_ms: list[float] = []
    barrier.wait()
    warm_s = time.perf_counter() + timing.warm_up_s
    while time.perf_counter() < warm_s:
        pipeline.run(Picture(media))
    window.begin()
    began_s = now_s = time.perf_counter()
    cpu_began_s = time.process_time()
    while now_s - began_s < timing.seconds:
        if timing.pause_s:
            time.sleep(timing.pause_s)
            now_s = time.perf_counter()
        pipeline.run(Picture(media), stages_ms)
        latencies_ms.append((time.perf_counter() - now_s) * 1000)
        now_s = time.perf_counter()
    cpu_s = time.process_time() - cpu_began_s
    window.end()
    return Run(
        clients=1,
        elapsed_s=now_s - began_s,
        latencies_ms=latencies_ms,
        stages_ms={name: total / len(latencies_ms) for name, total in stages_ms.items()},
        cpu_s={"bare": cpu_s},
    )
