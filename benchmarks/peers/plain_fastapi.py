"""The peer: what a competent developer would write in an afternoon, with FastAPI and ONNX Runtime.

One uvicorn process and a sync endpoint, so FastAPI runs requests in its thread pool; Pillow decodes
and resizes; each model is an ``InferenceSession`` with ONNX Runtime's defaults. The models are the
same files, our faster form of MobileFaceNet included, and the work is the same: a letterboxed view
and one with a border, non-maximum suppression, alignment to the ArcFace template, an embedding of
length 1. None of it is done badly on purpose, and none of it is taken from this project.

Run by hand: ``python -m benchmarks.peers.plain_fastapi --port 8001``.
"""

import argparse
import io
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import onnxruntime as ort
import uvicorn
from fastapi import Depends, FastAPI, Request
from numpy.typing import NDArray
from PIL import Image, ImageOps

from benchmarks.layouts import DEFAULT_CONFIG, GraphFile, installed_path

INPUT_PX = 192
CELLS = 48
THRESHOLD = 0.6
MAX_OVERLAP = 0.3
CROP_PX = 112
# ArcFace: right eye, left eye, nose tip, middle of the mouth.
TEMPLATE = np.array([(38.29, 51.70), (73.53, 51.50), (56.03, 71.74), (56.14, 92.28)])

Detection = tuple[float, NDArray[Any], NDArray[Any]]
"""Score, box (4,) and six landmarks (6, 2), in pixels of the picture."""


class Detector:
    """BlazeFace full range."""

    def __init__(self, path: Path) -> None:
        """Load the model."""
        self._session = ort.InferenceSession(path)
        self._input = self._session.get_inputs()[0].name
        centres = (np.arange(CELLS) + 0.5) / CELLS * INPUT_PX
        x, y = np.meshgrid(centres, centres)
        self._anchors = np.stack([x.ravel(), y.ravel()], axis=1)

    def detect(self, image: Image.Image) -> list[Detection]:
        """Find the faces of an RGB picture."""
        kept: list[Detection] = []
        for border in (0.0, 0.5):
            for face in merge(self._look(image, border)):
                if all(overlap(face[1], other[1]) < MAX_OVERLAP for other in kept):
                    kept.append(face)
        return kept

    def _look(self, image: Image.Image, border: float) -> list[Detection]:
        scale = INPUT_PX / (max(image.size) * (1 + 2 * border))
        width, height = round(image.width * scale), round(image.height * scale)
        left, top = (INPUT_PX - width) // 2, (INPUT_PX - height) // 2
        view = Image.new("RGB", (INPUT_PX, INPUT_PX))
        view.paste(image.resize((width, height), Image.Resampling.BILINEAR), (left, top))
        pixels = np.asarray(view, np.float32) / 127.5 - 1
        batch = np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])
        regressors, logits = self._session.run(None, {self._input: batch})
        scores = 1 / (1 + np.exp(-np.asarray(logits)[0, :, 0]))
        faces: list[Detection] = []
        for i in np.flatnonzero(scores > THRESHOLD):
            values = np.asarray(regressors)[0, i]
            centre = values[:2] + self._anchors[i]
            corners = np.stack([centre - values[2:4] / 2, centre + values[2:4] / 2])
            points = values[4:].reshape(6, 2) + self._anchors[i]
            origin = np.array([left, top])
            box, landmarks = (corners - origin) / scale, (points - origin) / scale
            faces.append((float(scores[i]), box.ravel(), landmarks))
        return faces


class Embedder:
    """MobileFaceNet."""

    def __init__(self, path: Path) -> None:
        """Load the model."""
        self._session = ort.InferenceSession(path)
        self._input = self._session.get_inputs()[0].name

    def embed(self, crops: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Embed crops (112, 112, 3); rows of length 1."""
        batch = (np.stack(crops).astype(np.float32) - 127.5) / 128
        batch = np.ascontiguousarray(batch.transpose(0, 3, 1, 2))
        embeddings = np.asarray(self._session.run(None, {self._input: batch})[0])
        return embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)


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


def build_app(config: Path) -> FastAPI:
    """Build the service with the models of a YAML file of the graph."""
    store = GraphFile(config).store()
    detector = Detector(installed_path(store, "blazeface_full_range"))
    embedder = Embedder(installed_path(store, "mobilefacenet"))
    app = FastAPI()

    async def body(request: Request) -> bytes:
        return await request.body()

    @app.post("/v1/face_embedding")
    def face_embedding(photo: Annotated[bytes, Depends(body)]) -> dict[str, Any]:
        image = ImageOps.exif_transpose(Image.open(io.BytesIO(photo))).convert("RGB")
        found = detector.detect(image)
        crops = [align(image, box, landmarks) for _, box, landmarks in found]
        embeddings = embedder.embed(crops) if crops else []
        faces = [
            {
                "box": (box / np.array(image.size * 2)).tolist(),
                "confidence": score,
                "embedding": embedding.tolist(),
            }
            for (score, box, _), embedding in zip(found, embeddings, strict=True)
        ]
        return {"faces": faces}

    return app


def main() -> None:
    """Serve until ended."""
    parser = argparse.ArgumentParser(description="A plain FastAPI service for face embeddings.")
    parser.add_argument("--port", type=int, default=8001)
    parser.add_argument("--config", type=Path, default=DEFAULT_CONFIG)
    arguments = parser.parse_args()
    uvicorn.run(
        build_app(arguments.config),
        host="127.0.0.1",
        port=arguments.port,
        access_log=False,
        log_level="warning",
    )


if __name__ == "__main__":
    main()
