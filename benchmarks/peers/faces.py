"""Faces and embeddings with Pillow and ONNX Runtime, as a competent developer writes it.

What the peers compute: the same model files as ours, our faster form of MobileFaceNet included, and
the same work: a letterboxed view and one with a border, non-maximum suppression, alignment to the
ArcFace template, an embedding of length 1. None of it is done badly on purpose, and none of it is
taken from this project. Pictures are decoded in full. It takes several pictures at once, for peers
that form batches.
"""

import argparse
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from PIL import Image, ImageOps

INPUT_PX = 192
CELLS = 48
THRESHOLD = 0.6
MAX_OVERLAP = 0.3
BORDERS = (0.0, 0.5)
CROP_PX = 112
# ArcFace: right eye, left eye, nose tip, middle of the mouth.
TEMPLATE = np.array([(38.29, 51.70), (73.53, 51.50), (56.03, 71.74), (56.14, 92.28)])

Detection = tuple[float, NDArray[Any], NDArray[Any]]
"""Score, box (4,) and six landmarks (6, 2), in pixels of the picture."""
Answer = dict[str, Any]
"""The JSON of one picture: ``faces``, each with box, confidence and embedding."""


def decode(photo: bytes) -> Image.Image:
    """Decode a photo in full, upright and in RGB."""
    return ImageOps.exif_transpose(Image.open(io.BytesIO(photo))).convert("RGB")


class Detector:
    """BlazeFace full range.

    Args:
        path: the ONNX file.
        threads: of the session; None leaves ONNX Runtime's default.

    """

    def __init__(self, path: Path, threads: int | None = None) -> None:
        """Load the model."""
        self._session = session(path, threads)
        self._input = self._session.get_inputs()[0].name
        centres = (np.arange(CELLS) + 0.5) / CELLS * INPUT_PX
        x, y = np.meshgrid(centres, centres)
        self._anchors = np.stack([x.ravel(), y.ravel()], axis=1)

    def detect(self, images: Sequence[Image.Image]) -> list[list[Detection]]:
        """Find the faces of RGB pictures; both views of all of them are one batch."""
        views = [view(image, border) for image in images for border in BORDERS]
        batch = np.stack([pixels for pixels, _, _ in views])
        regressors, logits = self._session.run(None, {self._input: batch})
        scores = 1 / (1 + np.exp(-np.asarray(logits)[..., 0]))
        found = [
            self._faces(np.asarray(regressors)[i], scores[i], scale, origin)
            for i, (_, scale, origin) in enumerate(views)
        ]
        per_image = len(BORDERS)
        return [
            _without_repeats(found[i * per_image : (i + 1) * per_image]) for i in range(len(images))
        ]

    def _faces(
        self, regressors: NDArray[Any], scores: NDArray[Any], scale: float, origin: NDArray[Any]
    ) -> list[Detection]:
        faces: list[Detection] = []
        for i in np.flatnonzero(scores > THRESHOLD):
            values = regressors[i]
            centre = values[:2] + self._anchors[i]
            corners = np.stack([centre - values[2:4] / 2, centre + values[2:4] / 2])
            points = values[4:].reshape(6, 2) + self._anchors[i]
            box, landmarks = (corners - origin) / scale, (points - origin) / scale
            faces.append((float(scores[i]), box.ravel(), landmarks))
        return merge(faces)


class Embedder:
    """MobileFaceNet; arguments as for ``Detector``."""

    def __init__(self, path: Path, threads: int | None = None) -> None:
        """Load the model."""
        self._session = session(path, threads)
        self._input = self._session.get_inputs()[0].name

    def embed(self, crops: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Embed crops (112, 112, 3); rows of length 1."""
        batch = (np.stack(crops).astype(np.float32) - 127.5) / 128
        batch = np.ascontiguousarray(batch.transpose(0, 3, 1, 2))
        embeddings = np.asarray(self._session.run(None, {self._input: batch})[0])
        return embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)


class Faces:
    """Both models, from decoded pictures to answers; arguments as for ``Detector``."""

    def __init__(self, detector: Path, embedder: Path, threads: int | None = None) -> None:
        """Load the models."""
        self.detector = Detector(detector, threads)
        self.embedder = Embedder(embedder, threads)

    def run(self, images: Sequence[Image.Image]) -> list[Answer]:
        """Compute the answers of several pictures; all their faces are one batch."""
        found = self.detector.detect(images)
        crops = [
            align(image, box, landmarks)
            for image, faces in zip(images, found, strict=True)
            for _, box, landmarks in faces
        ]
        embeddings = iter(self.embedder.embed(crops) if crops else ())
        return [
            answer(image.size, faces, [next(embeddings) for _ in faces])
            for image, faces in zip(images, found, strict=True)
        ]


def answer(
    size: tuple[int, int], faces: Sequence[Detection], embeddings: Sequence[NDArray[np.float32]]
) -> Answer:
    """Put the JSON of one picture together."""
    return {
        "faces": [
            {
                "box": (box / np.array(size * 2)).tolist(),
                "confidence": score,
                "embedding": embedding.tolist(),
            }
            for (score, box, _), embedding in zip(faces, embeddings, strict=True)
        ]
    }


def session(path: Path, threads: int | None) -> ort.InferenceSession:
    """Open a model."""
    options = ort.SessionOptions()
    if threads is not None:
        options.intra_op_num_threads = threads
    return ort.InferenceSession(path, options)


def view(image: Image.Image, border: float) -> tuple[NDArray[np.float32], float, NDArray[Any]]:
    """Fit a picture into the detector's input: pixels (3, 192, 192), scale, origin (2,)."""
    scale = INPUT_PX / (max(image.size) * (1 + 2 * border))
    width, height = round(image.width * scale), round(image.height * scale)
    left, top = (INPUT_PX - width) // 2, (INPUT_PX - height) // 2
    canvas = Image.new("RGB", (INPUT_PX, INPUT_PX))
    canvas.paste(image.resize((width, height), Image.Resampling.BILINEAR), (left, top))
    pixels = np.asarray(canvas, np.float32) / 127.5 - 1
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)), scale, np.array([left, top])


def merge(found: list[Detection]) -> list[Detection]:
    """Average detections that overlap, weighted by score, as MediaPipe does."""
    found = sorted(found, key=lambda face: -face[0])
    merged: list[Detection] = []
    while found:
        best = found[0]
        same = [face for face in found if overlap(best[1], face[1]) > MAX_OVERLAP]
        found = [face for face in found if overlap(best[1], face[1]) <= MAX_OVERLAP]
        weights = np.array([score for score, _, _ in same])
        box = np.average([box for _, box, _ in same], axis=0, weights=weights)
        landmarks = np.average([points for _, _, points in same], axis=0, weights=weights)
        merged.append((best[0], box, landmarks))
    return merged


def overlap(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Intersection over union of two boxes."""
    low, high = np.maximum(one[:2], other[:2]), np.minimum(one[2:], other[2:])
    shared = float(np.prod(np.clip(high - low, 0, None)))
    areas = float(np.prod(one[2:] - one[:2]) + np.prod(other[2:] - other[:2]))
    return shared / (areas - shared)


def align(image: Image.Image, box: NDArray[Any], landmarks: NDArray[Any]) -> NDArray[np.uint8]:
    """Cut a face out and turn it upright."""
    # A little more than the face, at twice the size of the crop, so that sampling does not alias.
    margin = 0.5 * (box[2:] - box[:2])
    left, top, right, bottom = (*(box[:2] - margin), *(box[2:] + margin))
    shrink = max(1.0, float(right - left) / (4 * CROP_PX))
    size = (round((right - left) / shrink), round((bottom - top) / shrink))
    area = image.crop((round(left), round(top), round(right), round(bottom)))
    area = area.resize(size, Image.Resampling.BILINEAR)
    points = (landmarks[:4] - (left, top)) / shrink
    # x' = a·x − b·y + c, y' = b·x + a·y + d, from the crop to the picture, by least squares.
    rows: list[tuple[float, float, int, int]] = []
    for x, y in TEMPLATE:
        rows += [(x, -y, 1, 0), (y, x, 0, 1)]
    a, b, c, d = np.linalg.lstsq(np.array(rows), points.ravel(), rcond=None)[0]
    transform = (float(a), float(-b), float(c), float(b), float(a), float(d))
    return np.asarray(
        area.transform(
            (CROP_PX, CROP_PX),
            Image.Transform.AFFINE,
            transform,
            Image.Resampling.BILINEAR,
        ),
    )


def arguments(description: str) -> argparse.Namespace:
    """Read what every peer is told: ``port``, and the paths ``detector`` and ``embedder``."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--port", type=int, default=8001)
    parser.add_argument("--detector", type=Path, required=True, help="blazeface_full_range, ONNX")
    parser.add_argument("--embedder", type=Path, required=True, help="mobilefacenet, ONNX")
    return parser.parse_args()


def _without_repeats(views: Sequence[Sequence[Detection]]) -> list[Detection]:
    """Keep of each face what the first view that shows it says."""
    kept: list[Detection] = []
    for faces in views:
        for face in faces:
            if all(overlap(face[1], other[1]) < MAX_OVERLAP for other in kept):
                kept.append(face)
    return kept
