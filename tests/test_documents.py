"""What the documents refer to exists."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

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
        ROOT / "benchmarks" / "README.md",
    ],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_links_lead_somewhere(document: Path) -> None:
    """Every link to another file of the project leads to one."""
    text = document.read_text(encoding="utf-8")
    missing = [p for p in _LINK.findall(text) if not (document.parent / p).exists()]
    assert [] == missing
