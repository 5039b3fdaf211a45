"""How the three face nodes are best spread over deployments on one machine.

Each layout is a stack of its own, started, measured and ended before the next one.
"""

from typing import Any

from benchmarks.answers import check, expected_embedding
from benchmarks.comparison import START_S, Plan
from benchmarks.layouts import LAYOUTS, GraphFile, Layout
from benchmarks.load.cpu import pss_bytes
from benchmarks.photos import Photo
from benchmarks.progress import Steps
from benchmarks.subjects.graph import graph_service


def expected_s(plan: Plan) -> float:
    """About how long ``compare`` takes."""
    return len(LAYOUTS) * (START_S + 2 * plan.run_s)


def compare(plan: Plan, photo: Photo, steps: Steps) -> list[dict[str, Any]]:
    """Measure every layout of ``LAYOUTS`` with one photo; a row of plain data for each.

    Raises:
        BenchmarkError: a layout did not start, failed a request or gave another answer.

    """
    file = GraphFile(plan.config)
    steps.show("computing what is expected")
    expected = expected_embedding(plan.config, photo.data)

    def measure(layout: Layout) -> dict[str, Any]:
        with graph_service(plan.config, file.with_layout(layout)) as service:
            check(service.url, photo.data, expected, layout.title)
            everything = service.measure(photo.data, plan.timing(plan.clients))
            one = service.measure(photo.data, plan.timing(1))
            return {
                "layout": layout.title,
                "all": everything.to_json(),
                "one": one.to_json(),
                "pss_mb": round(pss_bytes(service.processes) / 1e6, 1),
            }

    rows: list[dict[str, Any]] = []
    for layout in LAYOUTS:
        with steps.step(layout.title, START_S + 2 * plan.run_s):
            rows.append(measure(layout))
    return rows
