"""What the tests of the three face capabilities share.

``python -m tests.deployments.faces_support`` writes the golden files anew. Do that only when a
change of results is intended, and look at the difference.
"""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deployments.face_alignment import FaceAlignment, FaceAlignmentParams
from deployments.face_detection import FaceDetection, FaceDetectionParams
from deployments.face_embedding import FaceEmbedding, FaceEmbeddingParams, FaceEmbeddings
from deployments.runtime.capability import NodeSettings
from deployments.runtime.models import ModelStore, load_catalogue
from deployments.runtime.picture import Picture
from deployments.runtime.random_media import Placement, montage
from deployments.runtime.types import AlignedFaces, Box, DetectedFaces, Media

GOLDEN = Path(__file__).parents[1] / "golden"
TESTS = Path(__file__).parents[1]

OBAMA = ("obama", "obama2", "obama3", "obama_partial_face", "obama_partial_face2")
PORTRAITS = (*OBAMA, "biden", "astronaut")
NOBODY = ("chelsea", "coffee", "gravel", "hubble_deep_field", "rocket")
DETECTORS = ("blazeface_full_range", "blazeface_short_range")

# The part of a portrait that is pasted into montages: left, top, side of a square in pixels, and
# the face's box in that square as shares of its side. Set by hand on the pictures.
FACE_TILES: dict[str, tuple[int, int, int, Box]] = {
    "obama": (265, 45, 460, Box(0.19, 0.19, 0.80, 0.80)),
    "obama2": (60, 200, 520, Box(0.16, 0.16, 0.82, 0.82)),
    "obama3": (520, 200, 520, Box(0.20, 0.19, 0.78, 0.77)),
    "biden": (320, 130, 520, Box(0.19, 0.19, 0.82, 0.82)),
    "astronaut": (140, 35, 175, Box(0.20, 0.20, 0.78, 0.78)),
}


class FaceChain:
    """The three face capabilities, called one after another."""

    def __init__(self, store: ModelStore) -> None:
        """Load the default models."""
        settings = NodeSettings(store, provider="cpu")
        self.detection = FaceDetection(settings)
        self.alignment = FaceAlignment(settings)
        self.embedding = FaceEmbedding(settings)
        for capability in (self.detection, self.alignment, self.embedding):
            capability.load()

    def detect(self, media: Media, **params: Any) -> DetectedFaces:  # noqa: ANN401 - as the model has them
        """Detect the faces of one picture."""
        return self.detection.run_batch([((Picture(media),), FaceDetectionParams(**params))])[0]

    def align(self, media: Media, **params: Any) -> AlignedFaces:  # noqa: ANN401 - as the model has them
        """Detect and align."""
        picture = Picture(media)
        detected = self.detection.run_batch([((picture,), FaceDetectionParams(**params))])[0]
        return self.alignment.run_batch([((picture, detected), FaceAlignmentParams())])[0]

    def embed(self, media: Media, **params: Any) -> FaceEmbeddings:  # noqa: ANN401 - as the model has them
        """Detect, align and embed."""
        aligned = self.align(media, **params)
        return self.embedding.run_batch([((aligned,), FaceEmbeddingParams())])[0]


def to_media(image: Image.Image) -> Media:
    """Encode a picture without loss."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=1)
    return Media(buffer.getvalue(), "made.png")


def to_image(media: Media) -> Image.Image:
    """Decode a picture."""
    return Picture(media).rgb()


def face_tile(image: Image.Image, name: str) -> Image.Image:
    """Cut the square around the face out of a portrait."""
    left, top, side, _ = FACE_TILES[name]
    return image.crop((left, top, left + side, top + side))


def iou(first: Box, second: Box) -> float:
    """Intersection over union of two boxes."""
    width = min(first.x2, second.x2) - max(first.x1, second.x1)
    height = min(first.y2, second.y2) - max(first.y1, second.y1)
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    return both / (first.width * first.height + second.width * second.height - both)


def cosine(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Cosine of the angle between two vectors."""
    return float(first @ second / np.linalg.norm(first) / np.linalg.norm(second))


def crowd(
    portraits: dict[str, Image.Image],
    face_sizes_px: Sequence[int],
    size: tuple[int, int],
    seed: int,
) -> tuple[Image.Image, list[Box]]:
    """Build a picture with many faces that do not touch, every fifth cut a little by the edge.

    Args:
        portraits: pictures by a name in ``FACE_TILES``.
        face_sizes_px: width of each face in the picture.
        size: (width, height) of the picture in pixels.
        seed: decides who goes where.

    Returns:
        The picture, and each face's normalised box.

    """
    random = np.random.default_rng(seed)
    tiles: list[Image.Image] = []
    places: list[Placement] = []
    names: list[str] = []
    large_first = sorted(face_sizes_px, reverse=True)
    # Those at the edge first, while there is room for them.
    at_edge, elsewhere = large_first[::5], [px for i, px in enumerate(large_first) if i % 5]
    for number, face_px in enumerate([*at_edge, *elsewhere]):
        name = str(random.choice(list(FACE_TILES)))
        face = FACE_TILES[name][3]
        side_px = round(face_px / face.width)
        for _ in range(5000):
            left, top = (int(random.integers(0, length - side_px)) for length in size)
            if number < len(at_edge):  # the left edge cuts a tenth of the face off
                left = -round(side_px * (face.x1 + 0.1 * face.width))
            if all(
                left >= other.left_px + other.width_px
                or other.left_px >= left + side_px
                or top >= other.top_px + other.width_px
                or other.top_px >= top + side_px
                for other in places
            ):
                break
        else:
            raise AssertionError("the faces do not fit; take fewer or smaller ones")
        places.append(Placement(left, top, side_px))
        tiles.append(face_tile(portraits[name], name))
        names.append(name)
    made = montage(tiles, places, size)
    boxes = [
        Box(
            tile.x1 + FACE_TILES[name][3].x1 * tile.width,
            tile.y1 + FACE_TILES[name][3].y1 * tile.height,
            tile.x1 + FACE_TILES[name][3].x2 * tile.width,
            tile.y1 + FACE_TILES[name][3].y2 * tile.height,
        )
        for name, tile in zip(names, made.boxes, strict=True)
    ]
    return made.image, boxes


def write_golden() -> None:
    """Write the golden files from what the code gives now."""
    store = ModelStore(load_catalogue(TESTS.parent / "config" / "models.yaml"))
    photos = ModelStore(load_catalogue(TESTS / "photos.yaml"))
    uploads = {name: Media(photos.pull(name).read_bytes()) for name in PORTRAITS}
    found: dict[str, Any] = {}
    for model in DETECTORS:
        detection = FaceDetection(NodeSettings(store, model=model, provider="cpu"))
        detection.load()
        for name, media in uploads.items():
            request = ((Picture(media),), FaceDetectionParams(effort="fast"))
            (face,) = detection.run_batch([request])[0].faces
            box = face.box
            found.setdefault(model, {})[name] = {
                "box": [round(value, 4) for value in (box.x1, box.y1, box.x2, box.y2)],
                "confidence": round(face.confidence, 3),
                "landmarks": {
                    key: [round(x, 4), round(y, 4)] for key, (x, y) in face.landmarks.items()
                },
            }
    chain = FaceChain(store)
    embeddings = {
        name: [round(value, 4) for value in chain.embed(media).faces[0].embedding.tolist()]
        for name, media in uploads.items()
    }
    GOLDEN.mkdir(exist_ok=True)
    (GOLDEN / "face_detection.json").write_text(json.dumps(found, indent=1) + "\n")
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(row)}" for key, row in embeddings.items())
    (GOLDEN / "face_embedding.json").write_text(f"{{\n{lines}\n}}\n")


if __name__ == "__main__":
    write_golden()
