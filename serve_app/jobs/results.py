"""From results to what a job shows as its ``task_output``, and the files that it leaves.

The nine tasks of the original job protocol give the fields and files that its clients read; the
results of other nodes are given as JSON. An ``analyze`` job shows under ``outputs`` what each
task alone would, and has its files in a folder for each: ``output/hash/hash.json`` for the
``output/hash.json`` of a ``hash`` job.
"""

import io
import posixpath
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import singledispatch
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic_core import to_json

from deployments.dino_embedding import DinoEmbeddingResult
from deployments.exif import ExifMetadata
from deployments.face_embedding import EmbeddedFace, FaceEmbeddings
from deployments.hash import Hashes
from deployments.hls_streaming import HlsStream
from deployments.image_conversion import ConvertedImage
from deployments.media_thumbnail import Thumbnail
from deployments.runtime.asset import Asset
from deployments.runtime.embeddings import ImageEmbedding
from deployments.runtime.types import Box, DetectedFaces, EncodedFile, Face, Point
from serve_app.http.encoding import adapter_for
from serve_app.jobs.job import ANALYZE

OUTPUT = "output"
"""Folder of what a job has computed, below that of its attempt."""

CROP_MARGIN = 0.25
"""Of a face's width and height, on each side of its crop. Embeddings of such crops of seven
portraits had a cosine of 0.965 to 0.986 with those of the whole photo, and without a margin of
0.925 to 0.956."""

MOUTH_HALF_WIDTH = 0.414
"""From the centre of the mouth to a corner, as a share of the distance between the eyes: as in
ArcFace's template (``arcface_dst`` in InsightFace's ``face_align.py``, MIT), where the corners are
at x = 41.55 and 70.73 and the eyes at 38.29 and 73.53."""

_MEDIA_TYPES = frozenset({"image", "video", "audio", "text"})
"""The protocol's words for what a file is; ``file`` is any other."""


@dataclass(frozen=True, slots=True)
class Shaped:
    """One result as a job shows it.

    Attributes:
        fields: what the result says, as JSON.
        output_path: the file that clients look for, below the attempt's folder.
        files: path below the attempt's folder to content.

    """

    fields: dict[str, Any]
    output_path: str
    files: dict[str, bytes]

    @property
    def task_output(self) -> dict[str, Any]:
        """The fields, and where the file is."""
        return {"output_path": self.output_path, **self.fields}


@dataclass(frozen=True, slots=True)
class Source:
    """What a result was made of, and where its files go.

    Attributes:
        node: that made it.
        task: of the job: the node, or ``analyze``.
        asset: opens the file that was sent.
        elapsed_ms: that the node took.
        cropped: the file is the crop of one face.

    """

    node: str
    task: str
    asset: Callable[[], Asset]
    elapsed_ms: float = 0.0
    cropped: bool = False

    def output(self, name: str) -> str:
        """Path of an output file of that name."""
        return f"{output_folder(self.node, self.task)}/{name}"

    def face(self, index: int) -> str:
        """Path of the crop of a face."""
        folder = f"{OUTPUT}/{self.node}/" if self.task == ANALYZE else ""
        return f"{folder}faces/face_{index}.png"


def output_folder(node: str, task: str) -> str:
    """Where the files of a node's result go, below the attempt's folder."""
    return f"{OUTPUT}/{node}" if task == ANALYZE else OUTPUT


@singledispatch
def shape(result: Any, source: Source) -> Shaped:  # noqa: ANN401 - any capability's result
    """Show a result: what is not of the protocol as JSON.

    Raises:
        InputError: the picture can't be read, which faces are to be cut from.

    """
    return _as_json(_plain(result), source.output(f"{source.node}.json"))


@shape.register
def _(result: ImageEmbedding | DinoEmbeddingResult, source: Source) -> Shaped:
    fields = _plain(result, "embedding") | {"embedding": _numbers(result.embedding)}
    return _as_npy(fields, source, result.embedding)


@shape.register
def _(result: FaceEmbeddings, source: Source) -> Shaped:
    """Show all faces; the file has shape (D,) for the crop of a face, and else (N, D)."""
    rows = [face.embedding for face in result.faces]
    numbers = [_numbers(row) for row in rows]
    fields = _plain(result, "faces") | {
        "quality_score": result.faces[0].quality.score if rows else None,
        "embedding": numbers[0] if rows else None,
        "embeddings": numbers,
        "faces": [_face(face) | {"quality": _plain(face.quality)} for face in result.faces],
    }
    stacked = np.array(rows, np.float32).reshape(-1, result.embedding_dim)
    return _as_npy(fields, source, stacked[0] if source.cropped and rows else stacked)


@shape.register
def _(result: DetectedFaces, source: Source) -> Shaped:
    paths = [source.face(index) for index in range(len(result.faces))]
    faces = [
        _face(face) | {"file_path": path} for face, path in zip(result.faces, paths, strict=True)
    ]
    fields = _plain(result, "faces") | {"faces": faces, "num_faces": len(faces)}
    shaped = _as_json(fields, source.output(f"{source.node}.json"))
    if paths:
        image = source.asset().picture.rgb()
        for face, path in zip(result.faces, paths, strict=True):
            shaped.files[path] = _crop(image, face.box)
    return shaped


@shape.register
def _(result: Hashes, source: Source) -> Shaped:
    path = source.output(f"{source.node}.json")
    fields = _plain(result, "media_type") | _media_type(result.media_type)
    file = {
        "hash_value": result.hash_value,
        "algorithm": result.algorithm,
        "media_type": fields["media_type"],
        "process_time": source.elapsed_ms / 1000,  # seconds
    }
    return Shaped(fields, path, {path: to_json(file)})


@shape.register
def _(result: ExifMetadata, source: Source) -> Shaped:
    fields = _plain(result, "media_type") | _media_type(result.media_type)
    return _as_json(fields, source.output(f"{source.node}_metadata.json"))


@shape.register
def _(result: EncodedFile, source: Source) -> Shaped:
    return _as_file(result, source.output(posixpath.basename(result.filename) or source.node))


@shape.register
def _(result: ConvertedImage, source: Source) -> Shaped:
    return _as_file(result, source.output(f"converted_{result.filename}"))


@shape.register
def _(result: Thumbnail, source: Source) -> Shaped:
    """Show it; ``media_type`` is that of the file it was made of, as the protocol has it."""
    path = source.output(f"thumbnail{PurePosixPath(result.filename).suffix}")
    shaped = _as_file(result, path)
    media_type = _media_type(source.asset().media_type.mime)
    return Shaped(shaped.fields | media_type | {"thumbnail_path": path}, path, shaped.files)


@shape.register
def _(result: HlsStream, source: Source) -> Shaped:
    """Show it; its files are in the job's folder already, or where the request wanted them."""
    # An absolute path, of a folder that the request named, stays as it is.
    path = posixpath.join(output_folder(source.node, source.task), result.master_playlist)
    return Shaped(_plain(result, "output_id") | {"master_playlist": path}, path, {})


def _plain(result: Any, *without: str) -> dict[str, Any]:  # noqa: ANN401 - any capability's result
    """Make a result JSON, but for the fields named."""
    return adapter_for(type(result)).dump_python(result, mode="json", exclude=set(without))


def _as_json(fields: dict[str, Any], path: str) -> Shaped:
    return Shaped(fields, path, {path: to_json(fields)})


def _as_npy(fields: dict[str, Any], source: Source, array: NDArray[np.float32]) -> Shaped:
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(array, dtype="<f4"), allow_pickle=False)
    path = source.output(f"{source.node}.npy")
    return Shaped(fields, path, {path: buffer.getvalue()})


def _as_file(result: EncodedFile, path: str) -> Shaped:
    return Shaped(_plain(result, "data", "filename"), path, {path: result.data})


def _media_type(mime: str) -> dict[str, str]:
    """Say what a file is in the protocol's word, and by its MIME type."""
    kind = mime.partition("/")[0]
    return {"media_type": kind if kind in _MEDIA_TYPES else "file", "mime_type": mime}


def _numbers(embedding: NDArray[np.float32]) -> list[float]:
    """List the shortest numbers that are this float32 again: half as long as Python's own."""
    return [float(str(value)) for value in embedding]


def _face(face: Face | EmbeddedFace) -> dict[str, Any]:
    """Show a face in the protocol's words; its coordinates stay within the picture."""
    box = face.box
    estimated = _mouth_corners(face.landmarks)
    landmarks = {name: _within(point) for name, point in {**estimated, **face.landmarks}.items()}
    return {
        "bbox": {name: _share(getattr(box, name)) for name in ("x1", "y1", "x2", "y2")},
        "confidence": face.confidence,
        "landmarks": landmarks,
        "estimated_landmarks": [name for name in estimated if name not in face.landmarks],
    }


def _mouth_corners(landmarks: Mapping[str, Point]) -> dict[str, Point]:
    """Estimate the mouth's corners from its centre, parallel to the line between the eyes.

    The detector gives the centre alone, and the protocol has the corners. Empty for a face without
    these landmarks.
    """
    try:
        right, left = landmarks["right_eye"], landmarks["left_eye"]
        x, y = landmarks["mouth_center"]
    except KeyError:
        return {}
    # Shares of width and of height scale a line evenly, so this holds without the picture's size.
    dx, dy = ((left[axis] - right[axis]) * MOUTH_HALF_WIDTH for axis in (0, 1))
    return {"mouth_right": (x - dx, y - dy), "mouth_left": (x + dx, y + dy)}


def _share(value: float) -> float:
    return min(1.0, max(0.0, value))


def _within(point: Point) -> list[float]:
    return [_share(point[0]), _share(point[1])]


def _crop(image: Image.Image, box: Box) -> bytes:
    """Cut a face with its margin out of an upright picture, as PNG of at least a pixel."""
    dx, dy = box.width * CROP_MARGIN, box.height * CROP_MARGIN
    left, right = _cut(box.x1 - dx, box.x2 + dx, image.width)
    top, bottom = _cut(box.y1 - dy, box.y2 + dy, image.height)
    buffer = io.BytesIO()
    image.crop((left, top, right, bottom)).save(buffer, format="png", compress_level=1)
    return buffer.getvalue()


def _cut(start: float, end: float, length_px: int) -> tuple[int, int]:
    """Pixels from a start to an end that are shares of a length, within it, at least one."""
    first = min(length_px - 1, max(0, round(start * length_px)))
    return first, max(first + 1, min(length_px, round(end * length_px)))
