"""Made-up results of a whole run, for what is derived from them."""

import json
from typing import Any

from benchmarks import suite
from benchmarks.load.run import Run
from benchmarks.report.targets import judge
from benchmarks.results import Key, Results

STAGES = {"face_detection": 10.0, "hop_faces": 1.0}
_RATES = {
    (suite.BARE, "a process per core"): 50.0,
    (suite.BARE, "1 client"): 25.0,
    (suite.PLAIN, "8 clients"): 12.5,
    (suite.LITSERVE, "8 clients"): 25.0,
    (suite.BENTOML, "8 clients"): 20.0,
    (suite.OURS, "1 client"): 20.0,
    (suite.OURS, "8 clients"): 40.0,
    (suite.OURS, "64 clients"): 36.0,
    (suite.SEPARATE, "8 clients"): 35.0,
    (suite.ONE_CORE_PI, "4 clients"): 5.0,
}


def run(images_per_s: float, cpu_ms: float, p50_ms: float = 10.0, **others: Any) -> Run:  # noqa: ANN401 - fields of a run
    """Make up a run of ten seconds whose photos took all equally long."""
    count = round(images_per_s * 10)
    cpu_s = {"ingress": cpu_ms * count / 1000}
    return Run(8, 10.0, [p50_ms] * count, STAGES, cpu_s, **others)


def results() -> Results:
    """Make up results that reach every number exactly or better."""
    subjects = [subject for subject, _ in _RATES]
    found = Results({name: about(name) for name in ("small", "large")}, subjects)
    for workload in found.workloads:
        for (subject, load), rate in _RATES.items():
            cpu_ms = {suite.BARE: 40.0, suite.SEPARATE: 56.0}.get(subject, 48.0)
            p50_ms = {"1 client": 48.0 if subject == suite.OURS else 40.0}.get(load, 10.0)
            found.runs[Key(subject, workload, load)] = run(rate, cpu_ms, p50_ms)
        found.runs[Key(suite.OURS, workload, suite.FIRST.title)] = Run(1, 0.1, [100.0])
    found.graphs = [
        {"model": "mobilefacenet", "form": "fast", "ms_per_image": 8.0, "ratio": 1.5, "cosine": 1},
        {"model": "dinov2", "form": "straight", "ms_per_image": 80.0, "ratio": 1.0, "cosine": 1},
        {"model": "dinov2", "form": "fast", "ms_per_image": 40.0, "ratio": 1.75, "cosine": 0.995},
    ]
    figure = {"title": "memory, started", "value": 1400.0, "goal": 1500.0, "unit": "MB"}
    found.memory = [{"profile": "pi", "figures": [figure], "steps_s": {"models": 2.5}}]
    return found


def about(workload: str) -> dict[str, Any]:
    """Describe a photo."""
    return {"width": 600, "height": 800, "bytes": 10**5, "faces": 1, "source": workload}


def document(found: Results | None = None) -> dict[str, Any]:
    """Write made-up results as the command does, and read them again."""
    found = found or results()
    report = {
        "measured_at": "2000-01-01T00:00:00+00:00",
        "machine": {
            "cpu": "made up",
            "cores": 2,
            "memory_gb": 8.0,
            "system": "none",
            "python": "3.11",
            "versions": {"ray": "2.60.0"},
        },
        "busy_before_percent": 1.0,
        "plan": {"seconds": 8.0},
        "ratios": [entry.to_json() for entry in judge(found)],
        **found.to_json(),
    }
    return json.loads(json.dumps(report))
