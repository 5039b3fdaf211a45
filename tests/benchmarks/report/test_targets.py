"""Targets, verdicts and what is shown of them."""

from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.load.run import Run
from benchmarks.photos import Photo, Workload
from benchmarks.report import plot
from benchmarks.report.doubts import digest, doubts
from benchmarks.report.machine import PACKAGES, describe
from benchmarks.report.tables import (
    comparison_table,
    layouts_table,
    policies_table,
    processes_table,
    targets_table,
)
from benchmarks.report.targets import TARGETS, Comparison, judge


def made_up(workload: Workload = "small") -> Comparison:
    """A comparison that meets every target exactly or better."""

    def run(images_per_s: float, cpu_ms: float = 0.0, p50_ms: float = 10.0) -> Run:
        count = round(images_per_s * 10)
        cpu_s = {"process": cpu_ms * count / 1000}
        stages = {"face_detection": p50_ms / 2, "hop_faces": 1.0}
        return Run(8, 10.0, [p50_ms] * count, stages, cpu_s)

    return Comparison(
        photo=Photo(workload, b"jpeg", (600, 800), "made up"),
        bare_all=run(50, 40),
        bare_one=run(25, 40, p50_ms=40),
        plain_all=run(16, 60),
        plain_one=run(10, 60),
        tuned_all=run(30, 50),
        served_all=run(40, 60),
        served_one=run(20, 60, p50_ms=52),
        handles_all=run(38, 60),
    )


def test_the_targets_are_those_that_were_set() -> None:
    """Limits change by decision, not by accident."""
    assert [
        ("small", "at most", 1.5),
        ("small", "at least", 0.6),
        ("small", "at least", 1.3),
        ("small", "at most", 12.0),
        ("large", "at least", 0.7),
        ("large", "at least", 2.5),
    ] == [(target.workload, target.relation, target.limit) for target in TARGETS]


def test_every_target_passes_at_its_limit() -> None:
    """Limits themselves are good enough."""
    judged = judge({"small": made_up(), "large": made_up("large")})
    assert ["pass"] * 6 == [entry.verdict for entry in judged]
    assert pytest.approx([1.5, 0.8, 2.5, 12.0, 0.8, 2.5]) == [entry.value for entry in judged]


def test_a_miss_is_short() -> None:
    """Beyond the limit on the wrong side, whichever side that is."""
    slow = replace(made_up(), served_all=made_up().plain_all, served_one=made_up().plain_one)
    slow = replace(slow, served_one=Run(1, 10.0, [60.0]))
    assert ["pass", "short", "short", "short"] == [e.verdict for e in judge({"small": slow})]


def test_a_run_that_is_not_believed_is_not_judged() -> None:
    """Good figures of a bad run are no pass."""
    assert {"void"} == {entry.verdict for entry in judge({"small": made_up()}, valid=False)}


def test_a_quiet_run_leaves_no_doubt() -> None:
    """A little drift is normal."""
    assert [] == doubts({"small": made_up()}, 0.05, code_changed=False)


@pytest.mark.parametrize(("drift", "shown"), [(0.11, "+11%"), (-0.2, "-20%")])
def test_a_machine_that_changed_raises_doubt(drift: float, shown: str) -> None:
    """In either direction."""
    (doubt,) = doubts({"small": made_up()}, drift, code_changed=False)
    assert shown in doubt


def test_edited_code_raises_doubt(tmp_path: Path) -> None:
    """The fingerprint follows the files' content and names."""
    (tmp_path / "serve_app").mkdir()
    file = tmp_path / "serve_app" / "app.py"
    file.write_text("a = 1")
    before = digest(tmp_path)
    assert before == digest(tmp_path)
    file.write_text("a = 2")
    assert before != digest(tmp_path)
    assert ["code or configuration was edited meanwhile"] == doubts({}, 0.0, code_changed=True)


def test_others_on_the_machine_raise_doubt() -> None:
    """Each run says how much of the machine was not its own."""
    found = made_up()
    shared = replace(found, plain_one=replace(found.plain_one, others_share=0.3))
    assert ["others used 30% of the machine during plain_one, small photo"] == doubts(
        {"small": shared}, 0.0, code_changed=False
    )


def test_a_service_faster_than_bare_raises_doubt() -> None:
    """It can't be: bare does the same arithmetic on all cores and nothing else."""
    found = made_up()
    fast = replace(found, served_all=replace(found.bare_all, elapsed_s=5.0))
    assert ["cl-ml-serve gives 2.00x of bare on the small photo"] == doubts(
        {"small": fast}, 0.0, code_changed=False
    )


def test_only_measured_workloads_are_judged() -> None:
    """A run of one workload says nothing of the other."""
    assert {"large"} == {entry.target.workload for entry in judge({"large": made_up("large")})}
    assert [] == judge({})


def test_json_of_a_verdict_says_what_was_wanted() -> None:
    """A reader of the file needs no other one."""
    assert {
        "title": "CPU per photo, of bare",
        "workload": "small",
        "relation": "at most",
        "limit": 1.5,
        "unit": "×",
        "value": 1.5,
        "verdict": "pass",
    } == judge({"small": made_up()})[0].to_json()


def test_json_of_a_comparison_has_all_runs() -> None:
    """Photo, overhead and the eight runs."""
    document = made_up().to_json()
    assert 12.0 == document["overhead_ms"]
    assert 4 == document["photo"]["bytes"]
    assert {
        "bare_all",
        "bare_one",
        "plain_all",
        "plain_one",
        "tuned_all",
        "served_all",
        "served_one",
        "handles_all",
    } == set(document["runs"])


def test_tables_fit_a_terminal_of_80_columns() -> None:
    """No figure is cut off, and verdicts are there."""
    found = made_up()
    layout = {
        "layout": "ingress, 2 batches",
        "all": found.served_all.to_json(),
        "one": found.served_one.to_json(),
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
    console.print(
        comparison_table(found),
        targets_table(judge({"small": found})),
        processes_table(found.served_all, "CPU"),
        layouts_table([layout], 8),
        policies_table([policy]),
    )
    text = console.export_text()
    assert "…" not in text
    assert "pass" in text
    assert "at most 12 ms" in text
    assert "ingress, 2 batches" in text


def test_stages_add_up_to_the_mean_latency() -> None:
    """What the header does not explain is HTTP and routing."""
    stages = plot.stages_of(made_up())["cl-ml-serve"]
    assert pytest.approx(52.0) == sum(stages.values())
    assert pytest.approx(25.0) == stages[plot.REST]


def test_stages_never_go_below_zero() -> None:
    """Branches that ran at once may add up to more than the client waited."""
    served = Run(1, 1.0, [10.0], {"a": 8.0, "b": 8.0})
    assert 0.0 == plot.stages_of(replace(made_up(), served_one=served))["cl-ml-serve"][plot.REST]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_plot_is_a_png(tmp_path: Path) -> None:
    """Both workloads are drawn into one file."""
    path = tmp_path / "report.png"
    plot.draw({"small": made_up(), "large": made_up("large")}, path, valid=False)
    assert path.read_bytes().startswith(b"\x89PNG")


def test_the_machine_is_described() -> None:
    """Figures without a machine and versions can't be compared."""
    machine = describe()
    assert machine["cores"] >= 1
    assert set(PACKAGES) == set(machine["versions"])
    assert "unknown" != machine["cpu"]
