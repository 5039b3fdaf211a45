"""Six outputs of one photo over HTTP, against the bare models alone."""

import statistics
import time
from typing import Any

import httpx2

from benchmarks.capabilities.ratio import Ratio
from benchmarks.errors import BenchmarkError
from benchmarks.layouts import GraphFile
from benchmarks.load.child import Window
from deployments.runtime.capability import Capability, installed_capabilities
from deployments.runtime.picture import Picture
from deployments.runtime.types import Media

OUTPUTS = (
    "face_embedding",
    "dino_embedding",
    "clip_embedding",
    "exif",
    "hash",
    "media_thumbnail",
)
MODEL_NODES = (
    "face_detection",
    "face_alignment",
    "face_embedding",
    "dino_embedding",
    "clip_embedding",
)


def bare_models_s(
    _window: Window,
    file: GraphFile,
    photo: bytes,
    rounds: int,
) -> dict[str, float]:
    """Median seconds of each model alone on this photo, one thread, in this process.

    Only ``infer`` counts: no decoding, no preparation, no serving.
    """
    store = file.store()
    classes = installed_capabilities()
    nodes: dict[str, Capability[Any, Any]] = {}
    for name in MODEL_NODES:
        nodes[name] = classes[name](file.settings(name, store))
        nodes[name].load()
    known: dict[type, Any] = {Picture: Picture(Media(photo))}
    found: dict[str, float] = {}
    for name, node in nodes.items():
        inputs = tuple(known[kind] for kind in node.inputs)
        work = node.prepare(inputs, node.params())
        parts: Any = []
        times: list[float] = []
        for _ in range(rounds + 1 if work.units else 0):
            began_s = time.perf_counter()
            parts = node.infer(work.units)
            times.append(time.perf_counter() - began_s)
        if times:
            found[name] = statistics.median(times[1:])
        known[node.result] = node.finish(work, parts)
    return found


def served_s(url: str, photo: bytes, rounds: int) -> float:
    """Median seconds of one request for all outputs, with a single client."""
    query = {"outputs": ",".join(OUTPUTS)}
    times: list[float] = []
    with httpx2.Client(timeout=60) as client:
        for _ in range(rounds + 3):
            began_s = time.perf_counter()
            answer = client.post(f"{url}/v1/analyze", params=query, content=photo)
            times.append(time.perf_counter() - began_s)
            if answer.is_error or answer.json()["problems"]:
                raise BenchmarkError(f"/v1/analyze answered {answer.status_code}: {answer.text}")
    return statistics.median(times[3:])


def compare(title: str, ours_s: float, models_s: dict[str, float]) -> Ratio:
    """Put both sides together."""
    peer = "sum of bare models: " + ", ".join(
        f"{name} {1000 * seconds:.0f} ms" for name, seconds in models_s.items()
    )
    return Ratio(title, peer, ours_s, sum(models_s.values()), "at most", 1.25)
