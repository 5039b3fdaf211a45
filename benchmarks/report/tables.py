"""Tables for the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from benchmarks.capabilities.ratio import Ratio
from benchmarks.report.reading import Document, measured, of_bare, titled, value, wanted

_STYLE = {"pass": "green", "short": "bold red", "void": "yellow"}
_SHOWN_PROCESSES = 8
_PADDING = (0, 0, 0, 1)  # top, right, bottom, left: the tables fit 80 columns


def rates_table(document: Document, workload: str) -> Table:
    """Show the figures of one workload, a row per subject and load."""
    table = Table(
        box=SIMPLE_HEAD,
        padding=_PADDING,
        title=titled(document, workload),
        title_justify="left",
        caption="CPU and latencies in milliseconds per photo",
        caption_justify="left",
    )
    table.add_column("Subject")
    for title in ("load", "img/s", "of bare", "CPU", "p50", "p99"):
        table.add_column(title, justify="right", no_wrap=True)
    for run in measured(document, workload):
        table.add_row(
            run["subject"],
            run["load"],
            f"{run['images_per_s']:.1f}",
            of_bare(document, run),
            f"{run['cpu_ms_per_photo']:.1f}",
            f"{run['p50_ms']:.1f}",
            f"{run['p99_ms']:.1f}",
        )
    return table


def targets_table(document: Document) -> Table:
    """Show every number to reach with its verdict."""
    table = Table(box=SIMPLE_HEAD, padding=_PADDING, title="Numbers to reach", title_justify="left")
    table.add_column("Workload")
    table.add_column("Target")
    for title in ("measured", "wanted", "verdict"):
        table.add_column(title, justify="right", no_wrap=True)
    for line in document["ratios"]:
        title = line["title"] + (f"\n[dim]{escape(line['why'])}[/]" if line["why"] else "")
        verdict = line["verdict"]
        table.add_row(
            line["workload"], title, value(line), wanted(line), f"[{_STYLE[verdict]}]{verdict}[/]"
        )
    return table


def processes_table(run: Mapping[str, Any], title: str) -> Table:
    """Show which processes of a service use the CPU."""
    table = Table(box=SIMPLE_HEAD, padding=_PADDING, title=title, title_justify="left")
    _columns(table, "Process", "CPU ms/photo", "share")
    photos, total_s = max(run["photos"], 1), sum(run["cpu_s"].values()) or 1.0
    ranked = sorted(run["cpu_s"].items(), key=lambda item: -item[1])
    rest_s = sum(seconds for _, seconds in ranked[_SHOWN_PROCESSES:])
    for name, seconds in [*ranked[:_SHOWN_PROCESSES], ("all others", rest_s)]:
        table.add_row(name, f"{1000 * seconds / photos:.2f}", f"{seconds / total_s:.0%}")
    return table


def layouts_table(rows: Sequence[dict[str, Any]], clients: int) -> Table:
    """Show hosting layouts side by side; the rows are those of ``hosting.compare``."""
    table = Table(
        box=SIMPLE_HEAD,
        padding=_PADDING,
        title=f"Hosting layouts, small photo, {clients} clients",
        title_justify="left",
        caption="milliseconds per photo; one: with a single client; pair: detection with\n"
        "alignment; MB: memory; others: share of the machine that others used",
        caption_justify="left",
    )
    _columns(table, "Layout", "img/s", "CPU ms", "p50", "p95", "p50 one", "MB", "others")
    for row in rows:
        everything, one = row["all"], row["one"]
        table.add_row(
            row["layout"],
            f"{everything['images_per_s']:.1f}",
            f"{everything['cpu_ms_per_photo']:.1f}",
            f"{everything['p50_ms']:.1f}",
            f"{everything['p95_ms']:.1f}",
            f"{one['p50_ms']:.1f}",
            f"{row['pss_mb']:.0f}",
            f"{max(everything['others_share'], one['others_share']):.0%}",
        )
    return table


def policies_table(rows: Sequence[dict[str, Any]]) -> Table:
    """Show batching policies side by side; the rows are those of ``policies.compare``."""
    table = Table(
        box=SIMPLE_HEAD, padding=_PADDING, title="Batching policies", title_justify="left"
    )
    _columns(table, "Policy", "wait ms", "clients", "requests/s", "p50 ms", "units/batch")
    for row in rows:
        table.add_row(
            row["policy"],
            f"{row['wait_ms']:g}",
            str(row["clients"]),
            f"{row['requests_per_s']:.0f}",
            f"{row['p50_ms']:.1f}",
            f"{row['mean_batch']:.1f}",
        )
    return table


def ratios_table(ratios: Sequence[Ratio]) -> Table:
    """Show comparisons of single capabilities, each with its target."""
    table = Table(box=SIMPLE_HEAD, padding=_PADDING, title="Capabilities", title_justify="left")
    table.add_column("What")
    for title in ("ours ms", "peer ms", "ratio", "wanted", "verdict"):
        table.add_column(title, justify="right", no_wrap=True)
    for ratio in ratios:
        table.add_row(
            f"{ratio.title}\n[dim]{ratio.peer}[/]",
            f"{1000 * ratio.ours_s:.0f}",
            f"{1000 * ratio.peer_s:.0f}",
            f"{ratio.value:.2f}",
            f"{ratio.relation} {ratio.limit:g}",
            f"[{_STYLE[ratio.verdict]}]{ratio.verdict}[/]",
        )
    return table


def _columns(table: Table, first: str, *others: str) -> None:
    """Add a column of names and columns of numbers; figures that are cut off are no use."""
    table.add_column(first, no_wrap=True)
    for title in others:
        table.add_column(title, justify="right", no_wrap=True)
