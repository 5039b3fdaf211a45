"""What the documents refer to exists, and what the YAML may say is in them."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from serve_app.cluster_spec import ClusterSpec
from serve_app.schema import (
    AppArgs,
    EventsSpec,
    FilesSpec,
    JobsSpec,
    Limits,
    ModelsSpec,
    MqttSpec,
    NodeSpec,
    NodeTuning,
    OutputsSpec,
    WebhooksSpec,
)

ROOT = Path(__file__).resolve().parents[1]
_REFERENCE = re.compile(r"`(?P<file>[\w/]+\.py)?(?:::(?P<test>test_\w+))?`")
_LINK = re.compile(r"\]\((?!http|#)(?P<path>[^)#]+)")


def references() -> Iterator[tuple[Path, str | None]]:
    """Yield file and test of every reference in the table of the requested tests."""
    text = (ROOT / "INTERNALS.md").read_text(encoding="utf-8")
    table = text.partition("## Where the requested tests are")[2].partition("\n## ")[0]
    for row in (line for line in table.splitlines() if line.startswith("| ")):
        path = ROOT / "tests"
        for match in _REFERENCE.finditer(row):
            if match["file"]:
                full = ROOT / "tests" / match["file"]
                path = full if "/" in match["file"] else path.parent / match["file"]
            if match["file"] or match["test"]:
                yield path, match["test"]


@pytest.mark.parametrize(("path", "test"), list(references()))
def test_requested_tests_exist(path: Path, test: str | None) -> None:
    """Each test that the table names is in its file."""
    assert path.is_file()
    assert test is None or f"def {test}(" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "document",
    [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("deployments/*/README.md"),
        *ROOT.glob("examples/*/README.md"),
        ROOT / "benchmarks" / "README.md",
    ],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_links_lead_somewhere(document: Path) -> None:
    """Every link to another file of the project leads to one."""
    text = document.read_text(encoding="utf-8")
    missing = [p for p in _LINK.findall(text) if not (document.parent / p).exists()]
    assert [] == missing


def configuration() -> dict[str, list[str]]:
    """Read docs/configuration.md: for each section named by a key, the keys in its table."""
    text = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    sections: dict[str, list[str]] = {}
    for section in text.split("\n## ")[1:]:
        title, _, body = section.partition("\n")
        sections[title.strip("`")] = re.findall(r"^\| `([\w.]+)`", body, re.MULTILINE)
    return sections


@pytest.mark.parametrize(
    ("section", "model"),
    [
        ("cluster", ClusterSpec),
        ("applications[0].args.graph", NodeSpec),
        ("applications[0].args.models", ModelsSpec),
        ("applications[0].args.files", FilesSpec),
        ("applications[0].args.outputs", OutputsSpec),
        ("applications[0].args.jobs", JobsSpec),
        ("applications[0].args.jobs.webhooks", WebhooksSpec),
        ("applications[0].args.events", EventsSpec),
        ("applications[0].args.events.mqtt", MqttSpec),
        ("applications[0].args.limits", Limits),
        ("user_config", NodeTuning),
    ],
)
def test_every_key_is_documented(section: str, model: type[BaseModel]) -> None:
    """The table of a section has each key of its schema, and no other."""
    assert sorted(model.model_fields) == sorted(configuration()[section])


@pytest.mark.parametrize("key", AppArgs.model_fields)
def test_every_section_is_documented(key: str) -> None:
    """Each part of ``args`` has a section."""
    assert f"applications[0].args.{key}" in configuration()
