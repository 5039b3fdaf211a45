"""Domain types: the plain data that capabilities exchange and that crosses Serve handles.

All are frozen dataclasses of numbers, bytes and NumPy arrays, so they pickle cheaply, and all
are understood by Pydantic's ``TypeAdapter``, so the same definition is the wire contract. JSON
shows an embedding as a list of numbers; msgpack carries it as raw little-endian float32 bytes.

Coordinates are normalised: x grows to the right, y downwards, (0, 0) is the top left and (1, 1)
the bottom right corner of the picture *as a person sees it*, EXIF orientation applied.
"""

import base64
import io
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import (
    PlainSerializer,
    PlainValidator,
    SerializationInfo,
    WithJsonSchema,
)


def _embedding_to_wire(value: NDArray[np.float32], info: SerializationInfo) -> list[float] | bytes:
    if info.mode == "json":
        return value.tolist()
    return np.ascontiguousarray(value, dtype="<f4").tobytes()


def _bytes_to_wire(value: bytes, info: SerializationInfo) -> str | bytes:
    return base64.b64encode(value).decode("ascii") if info.mode == "json" else value


def _crops_to_wire(value: NDArray[np.uint8], info: SerializationInfo) -> list[str] | list[bytes]:
    pngs: list[bytes] = []
    for crop in value:
        buffer = io.BytesIO()
        Image.fromarray(crop).save(buffer, format="png", compress_level=1)
        pngs.append(buffer.getvalue())
    if info.mode == "json":
        return [base64.b64encode(png).decode("ascii") for png in pngs]
    return pngs


def _as_array(value: Any) -> Any:  # noqa: ANN401 - a validator sees whatever was passed
    return np.asarray(value)


Embedding = Annotated[
    NDArray[np.float32],
    PlainValidator(_as_array),
    PlainSerializer(_embedding_to_wire),
    WithJsonSchema(
        {
            "type": "array",
            "items": {"type": "number"},
            "description": "D numbers; in msgpack, D little-endian float32 values as raw bytes.",
        },
    ),
]
"""One embedding, shape (D,), float32."""

Crops = Annotated[
    NDArray[np.uint8],
    PlainValidator(_as_array),
    PlainSerializer(_crops_to_wire),
    WithJsonSchema(
        {
            "type": "array",
            "items": {"type": "string", "contentEncoding": "base64"},
            "description": "One PNG per crop, base64 in JSON and raw bytes in msgpack.",
        },
    ),
]
"""Image crops, shape (N, height, width, 3), uint8 RGB."""

EncodedBytes = Annotated[
    bytes,
    PlainSerializer(_bytes_to_wire),
    WithJsonSchema({"type": "string", "contentEncoding": "base64"}),
]
"""The bytes of a file: base64 in JSON, raw in msgpack."""

Point = tuple[float, float]
"""(x, y), normalised."""


@dataclass(frozen=True, slots=True)
class Media:
    """A photo, a video or another file as it came.

    Either its encoded bytes are in ``data``, or ``path`` is where it lies on the machine that
    computes, below a folder that the YAML allows, or ``stored`` is its key in the file store of
    jobs; that one never comes from a request. ``filename`` is its name if it had one.
    """

    data: bytes = b""
    filename: str | None = None
    path: str | None = None
    stored: str | None = None


@dataclass(frozen=True, slots=True)
class Texts:
    """The texts of one request, in the order in which they came."""

    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Upload:
    """All that one request sends: a file, texts, or both."""

    media: Media | None = None
    texts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EncodedFile:
    """A result that is a file: its route answers with the bytes, or with JSON when asked for it.

    ``media_type`` is its MIME type, ``filename`` a name to save it under.
    """

    data: EncodedBytes
    media_type: str
    filename: str


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in normalised coordinates; may reach past the picture where a face does."""

    x1: float
    y1: float
    x2: float
    y2: float

    @property
    def width(self) -> float:
        """Extent in x, as a share of the picture's width."""
        return self.x2 - self.x1

    @property
    def height(self) -> float:
        """Extent in y, as a share of the picture's height."""
        return self.y2 - self.y1


@dataclass(frozen=True, slots=True)
class Face:
    """One detected face.

    ``landmarks`` maps a name to a normalised point. Left and right are the person's own, as in
    ``right_eye``, ``left_eye``, ``nose_tip``, ``mouth_center``, ``right_ear_tragion`` and
    ``left_ear_tragion``; empty when the detector gives none.
    """

    box: Box
    confidence: float
    landmarks: dict[str, Point]


@dataclass(frozen=True, slots=True)
class DetectedFaces:
    """The faces of one picture, most confident first, and the picture's size in pixels."""

    faces: tuple[Face, ...]
    image_width: int
    image_height: int


@dataclass(frozen=True, slots=True)
class AlignedFaces:
    """Faces with their crops turned upright and scaled to a common template.

    ``crops`` has shape (N, 112, 112, 3), uint8 RGB, row i belonging to ``faces[i]``.
    """

    faces: tuple[Face, ...]
    crops: Crops
    image_width: int
    image_height: int
