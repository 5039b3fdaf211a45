"""The command that writes documents from a report."""

import json
import shutil
from pathlib import Path

import click
from rich.console import Console

from benchmarks.cli.common import OUT
from benchmarks.report import plot
from benchmarks.report.documents import (
    DOCUMENT,
    FOLDER,
    README,
    REPORT,
    replace_section,
    write_document,
    write_section,
)


@click.command()
@click.argument(
    "report",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    default=OUT / "report.json",
)
def document(*, report: Path) -> None:
    """Write docs/benchmarks.md, its plots, and the README's figures from a REPORT.

    REPORT is benchmarks/out/report.json, where `python -m benchmarks` leaves it, unless another
    one is named. A copy of it becomes docs/benchmarks/report.json, so that every figure can be
    traced; after a change of how documents are written, name that one.

    \b
    Examples:
        python -m benchmarks document
        python -m benchmarks document docs/benchmarks/report.json
    """  # noqa: D301 - click's \b keeps the lines as they are
    FOLDER.mkdir(parents=True, exist_ok=True)
    if report.resolve() != REPORT:
        shutil.copyfile(report, REPORT)
    figures = json.loads(REPORT.read_text(encoding="utf-8"))
    paths = [*plot.draw_all(figures, FOLDER), DOCUMENT, README]
    DOCUMENT.write_text(write_document(figures), encoding="utf-8")
    readme = README.read_text(encoding="utf-8")
    README.write_text(replace_section(readme, write_section(figures)), encoding="utf-8")
    Console().print(f"Written: {', '.join(str(path) for path in paths)}", soft_wrap=True)
