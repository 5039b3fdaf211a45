"""Makes workloads from portraits and models.

In a process of its own, so that the one that waits while others are measured stays small.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.layouts import PHOTOS as PORTRAITS_FILE
from benchmarks.layouts import GraphFile, installed_path
from benchmarks.load.child import Window, in_process
from benchmarks.subjects.bare import FacePipeline
from benchmarks.subjects.service import raw_body
from benchmarks.workloads.photos import Photo, make_photo
from benchmarks.workloads.workload import Workload
from deployments.runtime.models import ModelStore, load_catalogue

_Made = tuple[Photo, list[NDArray[np.float32]]]
"""A photo, and of each of its faces the embedding (D,)."""


def make_photos(config: Path, names: Sequence[str]) -> dict[str, Photo]:
    """Make photos of ``photos.PHOTOS``; fetches models and portraits that are missing."""
    return {name: photo for name, (photo, _) in _made(config, names).items()}


def face_workloads(config: Path, names: Sequence[str]) -> list[Workload]:
    """Make a workload of each photo, with what bare finds in it."""
    return [
        Workload(name, [raw_body(photo.data)], photo, embeddings)
        for name, (photo, embeddings) in _made(config, names).items()
    ]


def _made(config: Path, names: Sequence[str]) -> dict[str, _Made]:
    return in_process(_make, None, config, tuple(names))


def _make(_window: Window, config: Path, names: Sequence[str]) -> dict[str, _Made]:
    pipeline = FacePipeline(GraphFile(config))
    portraits = ModelStore(load_catalogue(PORTRAITS_FILE))

    def portrait(name: str) -> Image.Image:
        with Image.open(installed_path(portraits, name)) as stored:
            return stored.convert("RGB")

    photos = {name: make_photo(name, portrait, pipeline.boxes) for name in names}
    return {name: (photo, pipeline.embeddings(photo.data)) for name, photo in photos.items()}
