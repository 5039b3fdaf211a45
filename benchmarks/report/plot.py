"""The plots: throughput against concurrency, latency, and where a request's time goes."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.report.reading import Document, Entry, find, measured
from benchmarks.suite import (
    ALL_CORES,
    BARE,
    BENTOML,
    BUSY,
    CLOSED,
    LITSERVE,
    ONE,
    OURS,
    PLAIN,
    RAY,
    SEPARATE,
    TUNED,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

_COLOURS = {
    BARE: "#9aa5b1",
    PLAIN: "#e8a33d",
    TUNED: "#c9b458",
    LITSERVE: "#8e5ea2",
    BENTOML: "#c8553d",
    RAY: "#3f9b6c",
    OURS: "#1f5fa8",
    SEPARATE: "#6fb1e0",
}
_LEGEND_COLUMNS = 4
_STAGE_COLOURS = (
    "#2f6fb0",
    "#58a4d6",
    "#a5d0ec",
    "#e8a33d",
    "#f3cf8e",
    "#c8553d",
    "#9aa5b1",
    "#4c5b6b",
)
_PHOTOS = ("small", "large")
REST = "HTTP and routing"
EVERYTHING = "everything"


def stages_of(run: Entry) -> dict[str, float]:
    """Split the mean milliseconds of one photo into stages, as the subject reports them.

    For cl-ml-serve they come from its ``Server-Timing`` header: a part per node, and a part per
    hop to another process; what the client waited beyond them is HTTP and routing. Where there is
    no header all of it is one part.
    """
    stages = dict(run["stages_ms"])
    if not stages:
        return {EVERYTHING: run["mean_ms"]}
    if run["subject"] != BARE:
        stages[REST] = max(run["mean_ms"] - sum(stages.values()), 0.0)
    return stages


def draw_all(document: Document, folder: Path) -> list[Path]:
    """Write every plot into a folder as SVG, the same bytes for the same figures."""
    # Imported here: it is a development dependency and slow to load.
    import matplotlib as mpl  # noqa: PLC0415

    mpl.use("agg")
    mpl.rcParams |= {"svg.hashsalt": "benchmarks", "svg.fonttype": "none", "font.size": 9}
    from matplotlib import pyplot as plt  # noqa: PLC0415

    plots = {
        "throughput": (_draw_throughput, (11, 4.6)),
        "latency": (_draw_latency, (11, 4.6)),
        "stages": (_draw_stages, (11, 4.0)),
    }
    paths: list[Path] = []
    for name, (draw, size) in plots.items():
        figure, axes = plt.subplots(1, len(_PHOTOS), figsize=size, layout="constrained")
        for axis, workload in zip(axes, _PHOTOS, strict=True):
            draw(axis, document, workload)
            axis.spines[["top", "right"]].set_visible(False)
        labelled = {
            label: handle
            for axis in axes
            for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
        }
        figure.legend(
            labelled.values(),
            labelled.keys(),
            loc="outside lower center",
            ncols=_LEGEND_COLUMNS,
            frameon=False,
        )
        paths.append(folder / f"{name}.svg")
        figure.savefig(paths[-1], metadata={"Date": None})
        plt.close(figure)
    return paths


def _draw_throughput(axis: Any, document: Document, workload: str) -> None:  # noqa: ANN401 - matplotlib's Axes
    clients = {load.title: load.clients for load in CLOSED}
    found: dict[str, list[tuple[int, float]]] = {}
    for run in measured(document, workload):
        if run["load"] in clients:
            points = found.setdefault(run["subject"], [])
            points.append((clients[run["load"]], run["images_per_s"]))
    bare = find(document, BARE, workload, ALL_CORES.title)
    if bare:
        axis.axhline(bare["images_per_s"], color=_COLOURS[BARE], linestyle="--", label=BARE)
    for subject, points in found.items():
        if subject in _COLOURS and subject != BARE:
            x, y = zip(*sorted(points), strict=True)
            axis.plot(x, y, marker="o", markersize=4, color=_COLOURS[subject], label=subject)
    axis.set_xscale("log", base=2)
    axis.set_xticks(list(clients.values()), [str(count) for count in clients.values()])
    axis.set_ylim(bottom=0)
    axis.set_xlabel("clients")
    axis.set_ylabel("photos per second")
    axis.set_title(f"{workload} photo: throughput")


def _draw_latency(axis: Any, document: Document, workload: str) -> None:  # noqa: ANN401 - as above
    for subject, colour in _COLOURS.items():
        run = find(document, subject, workload, BUSY.title)
        if run:
            axis.plot(run["percentiles_ms"], range(101), color=colour, label=subject)
    from matplotlib.ticker import LogLocator  # noqa: PLC0415 - as in draw_all

    axis.set_xscale("log")
    axis.minorticks_off()
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter("{x:g}")
    axis.set_xlabel("milliseconds")
    axis.set_ylabel("% of photos answered within")
    axis.set_title(f"{workload} photo: latency with {BUSY.title}")


def _draw_stages(axis: Any, document: Document, workload: str) -> None:  # noqa: ANN401 - as above
    subjects: dict[str, Mapping[str, float]] = {}
    for subject in _COLOURS:
        run = find(document, subject, workload, ONE.title)
        if run:
            subjects[subject] = stages_of(run)
    names = list(dict.fromkeys(name for stages in subjects.values() for name in stages))
    left = [0.0] * len(subjects)
    for i, name in enumerate(names):
        widths = [stages.get(name, 0.0) for stages in subjects.values()]
        colour = _STAGE_COLOURS[i % len(_STAGE_COLOURS)]
        axis.barh(list(subjects), widths, left=left, label=name.replace("_", " "), color=colour)
        left = [start + extent for start, extent in zip(left, widths, strict=True)]
    for row, total in enumerate(left):
        axis.annotate(f" {total:.1f} ms", (total, row), va="center", fontsize=8)
    axis.invert_yaxis()
    axis.set_xlabel("milliseconds of one photo, mean")
    axis.set_title(f"{workload} photo: where the time goes, {ONE.title}")
    axis.margins(x=0.15)
