"""Documents are what the committed report gives, and every figure in them has a line there."""

import json

import pytest

from benchmarks.errors import BenchmarkError
from benchmarks.report import documents
from tests.benchmarks import made_up

REPORT = json.loads(documents.REPORT.read_text(encoding="utf-8"))


def test_the_page_is_what_the_report_gives() -> None:
    """docs/benchmarks.md is written by ``make bench-docs``, never by hand."""
    assert documents.DOCUMENT.read_text(encoding="utf-8") == documents.write_document(REPORT)


def test_the_readme_is_what_the_report_gives() -> None:
    """So is the table in the README."""
    readme = documents.README.read_text(encoding="utf-8")
    assert readme == documents.replace_section(readme, documents.write_section(REPORT))


def test_every_figure_of_the_readme_has_a_line_in_the_report() -> None:
    """The ids of its claims are those of lines, with the value that is shown."""
    values = {line["id"]: line["value"] for line in REPORT["ratios"]}
    shown = documents.write_section(REPORT).splitlines()[4:]
    assert len(documents.CLAIMS) == len(shown)
    for claim, row in zip(documents.CLAIMS, shown, strict=True):
        value = values[claim]
        assert ("–" if value is None else f"{value:.2f}") in row


def test_a_report_of_some_subjects_is_refused() -> None:
    """The README would claim what was not measured."""
    with pytest.raises(BenchmarkError, match=r"lacks CPU per photo, of bare \| small"):
        documents.write_section(made_up.document() | {"ratios": []})


def test_a_readme_without_marks_is_refused() -> None:
    """There is no place for the figures."""
    with pytest.raises(BenchmarkError, match="lacks the lines"):
        documents.replace_section("# A readme", "figures")


def test_a_table_without_rows_is_a_sentence() -> None:
    """Columns without figures would look like a mistake."""
    page = documents.write_document(made_up.document() | {"graphs": []})
    assert "| model | form |" not in page
    assert "Not measured in this run." in page


def test_what_is_missing_is_said() -> None:
    """Failures and doubts are in the page, in one line each."""
    found = made_up.results()
    found.failures["LitServe"] = "it did not start:\nTraceback\nValueError: a | b"
    found.doubts.append("the machine changed")
    page = documents.write_document(made_up.document(found))
    assert "| pi | memory, started | 1,400 MB | ≤ 1,500 MB |" in page
    assert "| pi | models | 2.5 |" in page
    assert "| LitServe | it did not start: … ValueError: a / b |" in page
    assert "| the machine changed | voids all |" in page
