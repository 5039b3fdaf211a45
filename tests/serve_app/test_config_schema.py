"""The JSON Schema that editors check a file with: it is current, and agrees with ``check``."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from scripts.write_schema import build_schema
from serve_app.settings import config_folder

COMMITTED = config_folder() / "serve.schema.json"
SHIPPED = sorted(config_folder().glob("serve*.yaml"))
BROKEN = Path(__file__).with_name("broken")

# Mistakes of form; a schema can't know which nodes and models there are.
OF_FORM = [
    "key_without_space",
    "missing_import_path",
    "missing_needs",
    "negative_replicas",
    "no_application",
    "port_too_large",
    "replicas_in_words",
    "string_for_deployment",
    "string_for_list",
    "string_for_number",
    "threads_zero",
    "two_applications",
    "wrong_import_path",
    *(path.stem for path in sorted(BROKEN.glob("unknown_key_*.yaml"))),
    "unknown_section",
]


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    """The committed schema, itself valid."""
    schema = json.loads(COMMITTED.read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def errors(validator: Draft202012Validator, path: Path) -> list[str]:
    """Return what the schema has against a file."""
    content: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    return [error.message for error in validator.iter_errors(content)]


def test_schema_is_the_committed_one() -> None:
    """config/serve.schema.json is what the code checks; scripts/write_schema.py writes it anew."""
    assert build_schema() == json.loads(COMMITTED.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_shipped_files(validator: Draft202012Validator, path: Path) -> None:
    """Every file in config/ names the schema in its first line, and follows it."""
    first, *_ = path.read_text(encoding="utf-8").splitlines()
    assert f"# yaml-language-server: $schema=./{COMMITTED.name}" == first
    assert [] == errors(validator, path)


@pytest.mark.parametrize("name", OF_FORM)
def test_broken_files(validator: Draft202012Validator, name: str) -> None:
    """What ``cl-serve check`` refuses for its form, an editor underlines."""
    assert errors(validator, BROKEN / f"{name}.yaml")
