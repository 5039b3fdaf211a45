"""Tables and plots of a report."""

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from benchmarks.cli.compare import show
from benchmarks.report import plot
from benchmarks.report.reading import find
from benchmarks.report.tables import layouts_table, policies_table
from benchmarks.suite import BARE, OURS
from tests.benchmarks import made_up

DOCUMENT = made_up.document()


def test_a_report_is_shown() -> None:
    """Each subject has a row, each number a verdict, and what is missing says why."""
    found = made_up.results()
    found.failures["LitServe"] = "no [/nothing]"
    found.doubts.append("the machine changed")
    console = Console(width=100, record=True)
    show(console, made_up.document(found))
    text = console.export_text()
    assert "plain FastAPI" in text
    assert "≥ 0.75×" in text
    assert "LitServe: no [/nothing]" in text
    assert "Not to be believed: the machine changed." in text


def test_tables_of_studies_fit_a_terminal() -> None:
    """No figure is cut off."""
    layout = {
        "layout": "ingress, 2 batches",
        "all": made_up.run(40, 50).to_json(),
        "one": made_up.run(20, 50).to_json(),
        "pss_mb": 1500.0,
    }
    policy = {
        "policy": "batch, then slot",
        "wait_ms": 10.0,
        "clients": 8,
        "requests_per_s": 390.0,
        "p50_ms": 20.5,
        "mean_batch": 8.0,
    }
    console = Console(width=80, record=True)
    console.print(layouts_table([layout], 8), policies_table([policy]))
    text = console.export_text()
    assert "…" not in text
    assert "ingress, 2 batches" in text


def entry(subject: str) -> dict[str, Any]:
    """Return the run of a subject with one client."""
    found = find(DOCUMENT, subject, "small", "1 client")
    assert found is not None
    return dict(found)


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        (entry(BARE), made_up.STAGES),
        (entry(OURS), {**made_up.STAGES, plot.REST: 37.0}),
        (entry(OURS) | {"mean_ms": 5.0}, {**made_up.STAGES, plot.REST: 0.0}),
        (entry(OURS) | {"stages_ms": {}}, {plot.EVERYTHING: 48.0}),
    ],
)
def test_stages(run: dict[str, Any], expected: dict[str, float]) -> None:
    """What the header does not explain is HTTP and routing, and never less than nothing."""
    assert pytest.approx(expected) == plot.stages_of(run)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_plots_are_the_same_for_the_same_figures(tmp_path: Path) -> None:
    """Three SVG files, which can be committed without a change in every run."""
    (tmp_path / "again").mkdir()
    first, second = (plot.draw_all(DOCUMENT, path) for path in (tmp_path, tmp_path / "again"))
    assert ["throughput.svg", "latency.svg", "stages.svg"] == [path.name for path in first]
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()
        assert b"LitServe" in one.read_bytes() or one.name == "stages.svg"
