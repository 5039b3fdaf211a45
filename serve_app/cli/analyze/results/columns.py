"""Arrow types from the JSON Schemas of results, so that columns do not depend on the files.

Whatever has no fixed shape, such as a dictionary with free keys, becomes a string of JSON.
"""

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
from pydantic_core import to_json

JsonSchema = Mapping[str, Any]

_REF = "#/components/schemas/"
_FLOAT32 = "float32"
"""Array schemas of embeddings say in their description that this is what the numbers are."""


@dataclass(frozen=True, slots=True)
class Column:
    """An Arrow type, and what turns a value from JSON into one that Arrow takes for it."""

    type: pa.DataType
    convert: Callable[[Any], Any]


def _same(value: Any) -> Any:  # noqa: ANN401 - whatever is in JSON
    return value


_STRING = Column(pa.string(), _same)
_INTEGER = Column(pa.int64(), _same)
_NUMBER = Column(pa.float64(), _same)
_SCALARS = {
    "string": _STRING,
    "integer": _INTEGER,
    "number": _NUMBER,
    "boolean": Column(pa.bool_(), _same),
}
_BINARY = Column(pa.binary(), base64.b64decode)
_TIME = Column(pa.timestamp("us", tz="UTC"), datetime.fromisoformat)
_JSON = Column(pa.string(), lambda value: to_json(value).decode())
_EMBEDDING = Column(pa.list_(pa.float32()), _same)


def row_column(outputs: Mapping[str, JsonSchema], definitions: Mapping[str, JsonSchema]) -> Column:
    """Make the struct of a whole line, as ``records`` describes it.

    Args:
        outputs: the result's schema of each output that is asked for.
        definitions: the schemas that they refer to, by name.

    """
    texts = dict.fromkeys(("title", "detail", "type", "request_id"), _STRING)
    problem = _struct({**texts, "status": _INTEGER})
    return _struct(
        {
            "path": _STRING,
            "size_bytes": _INTEGER,
            "modified_at": _TIME,
            "request": _STRING,
            "outputs": _struct({n: column_of(s, definitions) for n, s in outputs.items()}),
            "problems": _struct(dict.fromkeys(outputs, problem)),
            "problem": problem,
        },
    )


def column_of(schema: JsonSchema, definitions: Mapping[str, JsonSchema]) -> Column:
    """Make the column of one JSON Schema; every column may be null."""
    while "$ref" in schema:
        schema = definitions[schema["$ref"].removeprefix(_REF)]
    options = [option for option in schema.get("anyOf", ()) if option.get("type") != "null"]
    if len(options) == 1:
        return column_of(options[0], definitions)
    kind = schema.get("type")
    if kind == "object" and schema.get("properties") and not schema.get("additionalProperties"):
        fields = schema["properties"].items()
        return _struct({name: column_of(field, definitions) for name, field in fields})
    if kind == "array":
        return _array(schema, definitions)
    if kind == "string" and schema.get("contentEncoding") == "base64":
        return _BINARY
    return _SCALARS.get(str(kind), _JSON)


def _array(schema: JsonSchema, definitions: Mapping[str, JsonSchema]) -> Column:
    # A tuple such as a point has a schema for each place; those of one type are a list.
    items = schema.get("prefixItems") or [schema.get("items", {})]
    columns = [column_of(item, definitions) for item in items]
    if columns[0] is _JSON or any(column != columns[0] for column in columns):
        return _JSON
    if columns[0] is _NUMBER and _FLOAT32 in schema.get("description", ""):
        return _EMBEDDING
    convert = columns[0].convert
    if convert is _same:
        return Column(pa.list_(columns[0].type), _same)
    return Column(
        pa.list_(columns[0].type),
        lambda values: [None if value is None else convert(value) for value in values],
    )


def _struct(fields: Mapping[str, Column]) -> Column:
    def convert(value: Mapping[str, Any]) -> dict[str, Any] | None:
        present = {name: value.get(name) for name in fields}
        return {
            name: None if inner is None else fields[name].convert(inner)
            for name, inner in present.items()
        }

    return Column(pa.struct([(name, column.type) for name, column in fields.items()]), convert)
