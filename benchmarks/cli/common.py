"""What several commands share: options, a look at the machine, and the report's file."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from benchmarks.layouts import DEFAULT_CONFIG
from benchmarks.report.machine import BUSY_PERCENT, busy_percent, describe

OUT = Path(__file__).resolve().parents[1] / "out"

out_option = click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=OUT,
    help="Folder for the report.  [default: benchmarks/out]",
)
config_option = click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, resolve_path=True, path_type=Path),
    default=DEFAULT_CONFIG,
    help="The YAML file of the graph.  [default: config/serve.yaml]",
)
quick_option = click.option("--quick", is_flag=True, help="To see that it works, not for figures.")


def seconds_option(default: float) -> Any:  # noqa: ANN401 - click's own decorator
    """Make the option for the length of one measurement."""
    return click.option(
        "--seconds",
        type=click.FloatRange(0.5),
        default=default,
        show_default=True,
        help="Length of one measurement.",
    )


def warn_if_busy(console: Console) -> float:
    """Look how busy the machine is, in percent, and say so where that spoils figures."""
    busy = busy_percent()
    if busy > BUSY_PERCENT:
        console.print(
            f"[yellow]Others keep this machine {busy:.0f}% busy: "
            "ratios wander with what they do.[/]"
        )
    return busy


def write(console: Console, path: Path, busy: float, report: dict[str, Any]) -> dict[str, Any]:
    """Write a report with the time and the machine, say where it is, and return it."""
    document = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": describe(),
        "busy_before_percent": busy,
        **report,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1), encoding="utf-8")
    console.print(f"Report: {path}", soft_wrap=True)
    return document
