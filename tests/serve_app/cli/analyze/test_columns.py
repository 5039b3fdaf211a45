"""Arrow columns from the JSON Schemas that the service gives for its results."""

import enum
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa
import pytest
from pydantic import BaseModel, ConfigDict, TypeAdapter
from pydantic_core import to_jsonable_python

from deployments.runtime.types import (
    AlignedFaces,
    Box,
    Crops,
    Embedding,
    EncodedBytes,
    EncodedFile,
    Point,
)
from serve_app.cli.analyze.results.columns import Column, column_of, row_column


class Colour(enum.Enum):
    """Some words."""

    RED = "red"


class Loose(BaseModel):
    """Known fields beside unknown ones."""

    model_config = ConfigDict(extra="allow")
    a: int = 1


@dataclass(frozen=True)
class Empty:
    """No field at all, which Parquet has no column for."""


BOX = pa.struct([(name, pa.float64()) for name in ("x1", "y1", "x2", "y2")])


def column_for(kind: Any) -> Column:  # noqa: ANN401 - any type
    """Make the column of a Python type, the way the service describes it."""
    template = "#/components/schemas/{model}"
    schema = TypeAdapter(kind).json_schema(mode="serialization", ref_template=template)
    return column_of(schema, schema.get("$defs", {}))


@pytest.mark.parametrize(
    ("kind", "value", "expected_type", "expected"),
    [
        (Empty, {}, pa.string(), "{}"),
        (str, "a", pa.string(), "a"),
        (int, 1, pa.int64(), 1),
        (float, 1, pa.float64(), 1.0),
        (bool, True, pa.bool_(), True),
        (str | None, "a", pa.string(), "a"),
        (Literal["a", "b"], "a", pa.string(), "a"),
        (Colour, "red", pa.string(), "red"),
        (EncodedBytes, "AAH/", pa.binary(), b"\0\1\xff"),
        (EncodedBytes | None, "AAH/", pa.binary(), b"\0\1\xff"),
        (Crops, ["AAE="], pa.list_(pa.binary()), [b"\0\1"]),
        (Embedding, [], pa.list_(pa.float32()), []),
        (Embedding, [0.5, 1.0], pa.list_(pa.float32()), [0.5, 1.0]),
        (Embedding | None, [0.5], pa.list_(pa.float32()), [0.5]),
        (tuple[float, ...], [0.1], pa.list_(pa.float64()), [0.1]),
        (list[int | None], [1, None], pa.list_(pa.int64()), [1, None]),
        (list[EncodedBytes | None], ["AAE=", None], pa.list_(pa.binary()), [b"\0\1", None]),
        (Point, [0.1, 0.2], pa.list_(pa.float64()), [0.1, 0.2]),
        (Point | None, [0.1, 0.2], pa.list_(pa.float64()), [0.1, 0.2]),
        (tuple[int, str], [1, "a"], pa.string(), '[1,"a"]'),
        (dict[str, Any], {"b": [1], "a": None}, pa.string(), '{"b":[1],"a":null}'),
        (dict[str, Point], {"nose": [0, 1]}, pa.string(), '{"nose":[0,1]}'),
        (list[dict[str, int]], [{"a": 1}], pa.string(), '[{"a":1}]'),
        (list[Any], [1, "a"], pa.string(), '[1,"a"]'),
        (Any, "a", pa.string(), '"a"'),
        (int | str, "5", pa.string(), '"5"'),
        (Loose, {"a": 1, "z": 2}, pa.string(), '{"a":1,"z":2}'),
        (Box, {"x1": 1, "y1": 2, "x2": 3}, BOX, {"x1": 1.0, "y1": 2.0, "x2": 3.0, "y2": None}),
        (list[Box], [], pa.list_(BOX), []),
        (
            EncodedFile,
            {"data": "AAE=", "media_type": "a/b", "filename": None},
            pa.struct(
                [("data", pa.binary()), ("media_type", pa.string()), ("filename", pa.string())]
            ),
            {"data": b"\0\1", "media_type": "a/b", "filename": None},
        ),
    ],
)
def test_column(kind: Any, value: Any, expected_type: pa.DataType, expected: Any) -> None:  # noqa: ANN401 - any type
    """Each shape of a result has its Arrow type, and Arrow takes its values."""
    column = column_for(kind)
    assert expected_type == column.type
    assert [expected, None] == pa.array([column.convert(value), None], column.type).to_pylist()


def test_nested_result() -> None:
    """Structs in lists in structs, referred to by name, come out as they went in."""
    faces = column_for(AlignedFaces)
    box = {"x1": 0.1, "y1": 0.2, "x2": 0.3, "y2": 0.4}
    face = {"box": box, "confidence": 0.9, "landmarks": {"nose_tip": [0.5, 0.5]}}
    value = {"faces": [face], "crops": ["AAE="], "image_width": 4, "image_height": 3}
    (row,) = pa.array([faces.convert(value)], faces.type).to_pylist()
    assert {**face, "landmarks": '{"nose_tip":[0.5,0.5]}'} == row["faces"][0]
    assert ([b"\0\1"], 4, 3) == (row["crops"], row["image_width"], row["image_height"])


def test_row() -> None:
    """A row has the fields of a line, with a place for each output's problem."""
    row = row_column({"b": {"type": "integer"}, "a": {"type": "string"}}, {})
    fields = "path size_bytes modified_at request outputs problems problem"
    assert fields.split() == [field.name for field in row.type]
    assert ["b", "a"] == [field.name for field in row.type.field("problems").type]
    line = {"path": "/p", "modified_at": "2026-01-02T03:04:05.000006+00:00", "outputs": {"b": 1}}
    (back,) = pa.array([row.convert(line)], row.type).to_pylist()
    assert "2026-01-02T03:04:05.000006Z" == to_jsonable_python(back["modified_at"])
    assert ({"b": 1, "a": None}, None) == (back["outputs"], back["problem"])
