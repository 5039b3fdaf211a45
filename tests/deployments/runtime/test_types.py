"""The domain types: pickling, JSON and msgpack."""

import base64
import dataclasses
import io
import json
import pickle
from dataclasses import dataclass
from typing import Any

import msgpack
import numpy as np
import pytest
from PIL import Image
from pydantic import TypeAdapter

from deployments.runtime.types import AlignedFaces, Box, DetectedFaces, Embedding, Face, Media

FACE = Face(Box(0.25, -0.125, 0.75, 0.5), 0.875, {"nose_tip": (0.5, 0.25)})
FACE_AS_DATA = {
    "box": {"x1": 0.25, "y1": -0.125, "x2": 0.75, "y2": 0.5},
    "confidence": 0.875,
    "landmarks": {"nose_tip": [0.5, 0.25]},
}


@dataclass(frozen=True, slots=True)
class Embedded:
    """A result with an embedding in it."""

    embedding: Embedding


def crops(count: int) -> np.ndarray:
    """Make noise in the shape of face crops."""
    return np.random.default_rng(1).integers(0, 256, (count, 112, 112, 3), dtype=np.uint8)


def aligned(count: int) -> AlignedFaces:
    """Make so many aligned faces."""
    return AlignedFaces((FACE,) * count, crops(count), 640, 480)


def pixels_of(png: bytes) -> np.ndarray:
    """Decode a PNG."""
    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image)


def through_msgpack(kind: Any, value: object) -> dict[str, object]:  # noqa: ANN401 - any type
    """Serialise as the service does, and read it as a client would."""
    return msgpack.unpackb(msgpack.packb(TypeAdapter(kind).dump_python(value, mode="python")))


@pytest.mark.parametrize("count", [0, 1, 3])
def test_detected_faces(count: int) -> None:
    """Detected faces look the same in JSON and msgpack, and come back from JSON."""
    faces = DetectedFaces((FACE,) * count, 640, 480)
    expected = {"faces": [FACE_AS_DATA] * count, "image_width": 640, "image_height": 480}
    adapter = TypeAdapter(DetectedFaces)
    assert expected == json.loads(adapter.dump_json(faces))
    assert expected == through_msgpack(DetectedFaces, faces)
    assert faces == adapter.validate_json(adapter.dump_json(faces))


@pytest.mark.parametrize("count", [0, 1, 2])
def test_aligned_faces(count: int) -> None:
    """Crops travel as one PNG each, base64 in JSON and raw in msgpack, without loss."""
    faces = aligned(count)
    in_json = json.loads(TypeAdapter(AlignedFaces).dump_json(faces))
    in_msgpack = through_msgpack(AlignedFaces, faces)
    pngs = in_msgpack["crops"]
    assert isinstance(pngs, list)
    assert count == len(in_json["crops"]) == len(pngs)
    for crop, text, png in zip(faces.crops, in_json["crops"], pngs, strict=True):
        assert base64.b64decode(text) == png
        assert np.array_equal(crop, pixels_of(png))
    assert [FACE_AS_DATA] * count == in_json["faces"] == in_msgpack["faces"]


@pytest.mark.parametrize("length", [0, 1, 512])
@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8"])
def test_embedding(length: int, dtype: str) -> None:
    """An embedding is numbers in JSON and little-endian float32 bytes in msgpack."""
    values = np.linspace(-1, 1, length, dtype="<f4")
    embedded = Embedded(values.astype(dtype))
    in_json = json.loads(TypeAdapter(Embedded).dump_json(embedded))
    assert values.tolist() == pytest.approx(in_json["embedding"])
    assert values.tobytes() == through_msgpack(Embedded, embedded)["embedding"]


def test_strided_embedding() -> None:
    """A view with gaps is written as the values that it shows."""
    values = np.arange(8, dtype=np.float32)[::2]
    assert values.tobytes() == through_msgpack(Embedded, Embedded(values))["embedding"]


@pytest.mark.parametrize("kind", [DetectedFaces, AlignedFaces, Embedded])
def test_schema(kind: type) -> None:
    """Each type has a JSON schema, which OpenAPI needs, with every field in it."""
    schema = TypeAdapter(kind).json_schema(mode="serialization")
    assert {field.name for field in dataclasses.fields(kind)} == set(schema["properties"])


@pytest.mark.parametrize(
    "value",
    [Media(b"\x00\xff", "a.jpg"), Media(b""), FACE, DetectedFaces((FACE,), 2, 1)],
)
def test_pickling(value: object) -> None:
    """Plain values are equal on the other side of a handle."""
    assert value == pickle.loads(pickle.dumps(value))  # noqa: S301 - our own bytes


def test_pickling_crops() -> None:
    """Crops keep their values, shape and type on the other side of a handle."""
    faces = aligned(2)
    copy = pickle.loads(pickle.dumps(faces))  # noqa: S301 - our own bytes
    assert np.array_equal(faces.crops, copy.crops)
    assert np.uint8 == copy.crops.dtype


def test_box_extent() -> None:
    """Width and height are shares of the picture's, also for a box that reaches past it."""
    assert (0.5, 0.625) == (FACE.box.width, FACE.box.height)


def test_values_are_frozen() -> None:
    """A value can't be changed after it was handed on."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        FACE.confidence = 1.0  # pyright: ignore[reportAttributeAccessIssue]
