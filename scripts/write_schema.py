"""Write config/serve.schema.json: the YAML file for editors, compared by a test."""

import json
from pathlib import Path
from typing import Any

from pydantic.json_schema import GenerateJsonSchema
from ray.serve._private.utils import DEFAULT

from serve_app.schema import FileSchema

TARGET = Path("config/serve.schema.json")


class _SchemaOfFile(GenerateJsonSchema):
    """Serve's defaults that mean "not given" are left out."""

    def encode_default(self, dft: Any) -> Any:  # noqa: ANN401 - any default
        return None if dft is DEFAULT.VALUE else super().encode_default(dft)


def build_schema() -> dict[str, Any]:
    """Describe the file. Keys that are mistakes for ``cl-serve check`` are so here."""
    schema = FileSchema.model_json_schema(schema_generator=_SchemaOfFile)
    for model in (schema, *schema["$defs"].values()):
        if "properties" in model:
            model["additionalProperties"] = False
        if "description" in model:  # Ray's go on for pages, with examples in Python
            model["description"] = model["description"].split("\n\n")[0]
        for name, field in model.get("properties", {}).items():
            _tidy(name, field)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "cl-ml-serve: one graph in one file",
        "description": "docs/configuration.md explains every key.",
    }


def _tidy(name: str, field: dict[str, Any]) -> None:
    """Leave out what says nothing, and mappings of any content beside a typed one."""
    if field.get("title", "").lower() == name.replace("_", " "):
        del field["title"]
    if field.get("default", ...) is None or isinstance(field.get("default"), dict | list):
        del field["default"]
    branches = field.get("anyOf", [])
    if any("$ref" in branch for branch in branches):
        field["anyOf"] = [b for b in branches if b.get("additionalProperties") is not True]


def main() -> None:
    """Write the file."""
    text = json.dumps(build_schema(), indent=1, ensure_ascii=False)
    TARGET.write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
