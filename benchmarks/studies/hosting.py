"""How the three face nodes are best spread over deployments on one machine.

Each layout is a stack of its own, started, measured and ended before the next one.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.layouts import LAYOUTS, GraphFile, Layout
from benchmarks.load.cpu import pss_bytes
from benchmarks.load.run import Timing
from benchmarks.progress import Steps
from benchmarks.subjects.graph import START_S, graph_service
from benchmarks.workloads.prepare import face_workloads


def expected_s(timing: Timing) -> float:
    """About how long ``compare`` takes."""
    return len(LAYOUTS) * _layout_s(timing)


def compare(config: Path, timing: Timing, steps: Steps) -> list[dict[str, Any]]:
    """Measure every layout of ``LAYOUTS`` with the small photo; a row of plain data for each.

    Raises:
        BenchmarkError: a layout did not start or gave another answer.

    """
    file = GraphFile(config)
    steps.show("making the photo")
    (workload,) = face_workloads(config, ("small",))

    def measure(layout: Layout) -> dict[str, Any]:
        with graph_service(config, file.with_layout(layout)) as service:
            service.check(workload, layout.title)
            everything = service.measure(workload, timing)
            one = service.measure(workload, replace(timing, clients=1))
            return {
                "layout": layout.title,
                "all": everything.to_json(),
                "one": one.to_json(),
                "pss_mb": round(pss_bytes(service.processes) / 1e6, 1),
            }

    rows: list[dict[str, Any]] = []
    for layout in LAYOUTS:
        with steps.step(layout.title, _layout_s(timing)):
            rows.append(measure(layout))
    return rows


def _layout_s(timing: Timing) -> float:
    return START_S + 2 * (timing.warm_up_s + timing.seconds)
