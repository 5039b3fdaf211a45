"""The plot: images/s per subject and workload, and where the milliseconds of a request go."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.photos import Workload
from benchmarks.report.targets import Comparison

_COLOURS = {
    "bare": "#9aa5b1",
    "plain FastAPI": "#e8a33d",
    "tuned FastAPI": "#c9b458",
    "cl-ml-serve": "#2f6fb0",
}
_STAGE_COLOURS = ("#2f6fb0", "#58a4d6", "#a5d0ec", "#e8a33d", "#f3cf8e", "#c8553d", "#9aa5b1")
REST = "HTTP and routing"


def stages_of(found: Comparison) -> dict[str, dict[str, float]]:
    """Split the mean milliseconds of one photo at a time into stages, per subject.

    For cl-ml-serve they come from its ``Server-Timing`` header: a part per node, and a part per
    hop to another process; what the client waited beyond them is HTTP and routing. Where the
    header is missing all of it is.
    """
    bare, served = found.bare_one, found.served_one
    stages = {
        "bare": dict(bare.stages_ms),
        "plain FastAPI": {"everything": found.plain_one.mean_ms},
        "cl-ml-serve": dict(served.stages_ms),
    }
    rest_ms = served.mean_ms - sum(served.stages_ms.values())
    stages["cl-ml-serve"][REST] = max(rest_ms, 0.0)
    return stages


def draw(comparisons: Mapping[Workload, Comparison], path: Path, *, valid: bool = True) -> None:
    """Write the plot as a PNG; that of a run which is not believed says so itself."""
    # Imported here: it is a development dependency and slow to load.
    import matplotlib as mpl  # noqa: PLC0415

    mpl.use("agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, axes = plt.subplots(
        2,
        len(comparisons),
        figsize=(6.2 * len(comparisons), 7.2),
        squeeze=False,
        layout="constrained",
    )
    for column, (workload, found) in enumerate(comparisons.items()):
        width, height = found.photo.size
        _draw_rates(axes[0][column], found)
        axes[0][column].set_title(f"{workload}: {width}×{height}, the whole machine")
        _draw_stages(axes[1][column], found)
        axes[1][column].set_title(f"{workload}: where the time goes, one client")
    if not valid:
        figure.suptitle("void: see the doubts in report.json", color="#c8553d")
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _draw_rates(axis: Any, found: Comparison) -> None:  # noqa: ANN401 - matplotlib's Axes
    rates = {
        "bare": found.bare_all.images_per_s,
        "plain FastAPI": found.plain_all.images_per_s,
        "tuned FastAPI": found.tuned_all.images_per_s,
        "cl-ml-serve": found.served_all.images_per_s,
    }
    bars = axis.bar(list(rates), list(rates.values()), color=[_COLOURS[name] for name in rates])
    axis.bar_label(bars, fmt="%.1f", padding=2)
    axis.set_ylabel("images per second")
    axis.spines[["top", "right"]].set_visible(False)
    axis.margins(y=0.12)


def _draw_stages(axis: Any, found: Comparison) -> None:  # noqa: ANN401 - as above
    subjects = stages_of(found)
    names = list(dict.fromkeys(name for stages in subjects.values() for name in stages))
    labels = list(subjects)
    left = [0.0] * len(labels)
    for i, name in enumerate(names):
        widths = [max(subjects[label].get(name, 0.0), 0.0) for label in labels]
        colour = _STAGE_COLOURS[i % len(_STAGE_COLOURS)]
        axis.barh(labels, widths, left=left, label=name.replace("_", " "), color=colour)
        left = [start + extent for start, extent in zip(left, widths, strict=True)]
    for row, total in enumerate(left):
        axis.annotate(f" {total:.1f} ms", (total, row), va="center", fontsize=9)
    axis.invert_yaxis()
    axis.set_xlabel("milliseconds of one photo, mean")
    axis.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3, frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
    axis.margins(x=0.15)
