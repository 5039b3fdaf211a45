"""Numbers to reach, and verdicts."""

from pathlib import Path

import pytest

from benchmarks import suite
from benchmarks.load.run import Run
from benchmarks.report.doubts import digest, doubts
from benchmarks.report.machine import PACKAGES, describe
from benchmarks.report.targets import TARGETS, Judged, judge
from benchmarks.results import Key, NotMeasuredError, Results
from tests.benchmarks import made_up

OF_BARE = ("CPU per photo, of bare", "small")


def verdicts(found: Results) -> dict[tuple[str, str], Judged]:
    """Judge, and look verdicts up by title and workload."""
    return {(entry.target.title, entry.target.workload): entry for entry in judge(found)}


def test_the_targets_are_those_that_were_set() -> None:
    """Limits change by decision, not by accident."""
    limits = {(t.title, t.workload): (t.relation, t.limit) for t in TARGETS}
    of_both = {
        "CPU per photo, of bare": ("at most", 1.2),
        "CPU per photo, of bare, a deployment per model": ("at most", 1.4),
        "added latency, one client, median": ("at most", 8),
        "images/s, of bare": ("at least", 0.75),
        "images/s, of LitServe": ("at least", 1.0),
        "images/s, of BentoML": ("at least", 1.0),
        "images/s at 64 clients, of 8": ("at least", 0.9),
        "failed requests at 64 clients": ("at most", 0),
        "p99 at 64 clients, of the mean": ("at most", 3.0),
    }
    expected = {(title, size): limit for title, limit in of_both.items() for size in suite_sizes()}
    expected |= {
        ("images/s, of plain FastAPI", "small"): ("at least", 1.8),
        ("images/s, of plain FastAPI", "large"): ("at least", 3.0),
        ("photos/s on one core, serve.pi.yaml", "large"): ("at least", 5),
        ("photos/s on one core, serve.yaml", "large"): ("at least", 5),
        ("MobileFaceNet, of the straight conversion", ""): ("at least", 1.5),
        ("DINOv2, of the straight export", ""): ("at least", 1.7),
        ("DINOv2, cosine to the straight export", ""): ("at least", 0.99),
    }
    of_groups = {key: limit for key, limit in limits.items() if "faces" in key[1]}
    assert expected == {key: limit for key, limit in limits.items() if key not in of_groups}
    assert 12 == len(of_groups)


def suite_sizes() -> tuple[str, str]:
    """Name the photos that all numbers are about."""
    return "small", "large"


def test_every_target_passes_at_its_limit() -> None:
    """Limits themselves are good enough; what no workload or subject is about is not judged."""
    judged = judge(made_up.results())
    assert {"pass"} == {entry.verdict for entry in judged}
    assert not any("faces" in entry.target.workload for entry in judged)
    assert "photos/s on one core, serve.yaml" not in {entry.target.title for entry in judged}


@pytest.mark.parametrize(
    ("key", "replaced", "title"),
    [
        (Key(suite.OURS, "small", "8 clients"), made_up.run(40, 49), OF_BARE[0]),
        (Key(suite.OURS, "small", "8 clients"), made_up.run(22, 40), "images/s, of LitServe"),
        (Key(suite.OURS, "small", "8 clients"), made_up.run(37, 40), "images/s, of bare"),
        (
            Key(suite.OURS, "small", "64 clients"),
            made_up.run(35, 40),
            "images/s at 64 clients, of 8",
        ),
        (
            Key(suite.OURS, "small", "64 clients"),
            Run(64, 10.0, [10.0] * 90 + [100.0] * 10),
            "p99 at 64 clients, of the mean",
        ),
        (
            Key(suite.OURS, "small", "64 clients"),
            made_up.run(36, 40, errors=1),
            "failed requests at 64 clients",
        ),
        (
            Key(suite.OURS, "small", "1 client"),
            made_up.run(20, 40, 49.0),
            "added latency, one client, median",
        ),
    ],
)
def test_a_miss_is_short(key: Key, replaced: Run, title: str) -> None:
    """Beyond the limit on the wrong side, whichever side that is."""
    found = made_up.results()
    found.runs[key] = replaced
    assert "short" == verdicts(found)[title, "small"].verdict


def test_what_fails_voids_only_its_lines() -> None:
    """The line says why, and all others are judged."""
    found = made_up.results()
    for key in [key for key in found.runs if key.subject == suite.LITSERVE]:
        del found.runs[key]
    found.failures[suite.LITSERVE] = "it did not start"
    judged = verdicts(found)
    assert ("void", "it did not start") == (
        judged["images/s, of LitServe", "small"].verdict,
        judged["images/s, of LitServe", "small"].why,
    )
    assert "pass" == judged["images/s, of BentoML", "small"].verdict


@pytest.mark.parametrize(
    ("replaced", "why"),
    [
        (made_up.run(40, 48, errors=2, first_error="status 500"), "2 requests failed: status 500"),
        (made_up.run(40, 48, others_share=0.3), "others used 30% of the machine"),
    ],
)
def test_a_spoilt_run_voids_its_lines(replaced: Run, why: str) -> None:
    """Requests that failed, or others on the machine."""
    found = made_up.results()
    found.runs[Key(suite.OURS, "small", "8 clients")] = replaced
    judged = verdicts(found)[OF_BARE]
    assert "void" == judged.verdict
    assert judged.why.endswith(why)


def test_a_machine_that_changed_voids_everything() -> None:
    """Good figures of a bad run are no pass."""
    found = made_up.results()
    found.doubts.append("the machine changed")
    assert {"void"} == {entry.verdict for entry in judge(found)}


def test_json_of_a_verdict_says_what_was_wanted() -> None:
    """A reader of the file needs no other one."""
    assert {
        "id": "CPU per photo, of bare | small",
        "group": "cost",
        "title": "CPU per photo, of bare",
        "workload": "small",
        "relation": "at most",
        "limit": 1.2,
        "unit": "×",
        "value": 1.2,
        "verdict": "pass",
        "why": "",
    } == verdicts(made_up.results())[OF_BARE].to_json()


def test_the_fastest_form_is_one_that_is_right() -> None:
    """A form with another output does not count, however fast, unless there is no other."""
    found = made_up.results()
    wrong = {"model": "dinov2", "form": "wrong", "ms_per_image": 1.0, "ratio": 80.0, "cosine": 0.9}
    found.graphs = [*found.graphs, wrong]
    assert "fast" == found.graph("dinov2")["form"]
    found.graphs = [wrong]
    assert "wrong" == found.graph("dinov2")["form"]


def test_graphs_that_were_not_measured_say_so() -> None:
    """There is no figure without rows."""
    with pytest.raises(NotMeasuredError, match="no graph of dinov2"):
        Results().graph("dinov2")


def test_a_quiet_run_leaves_no_doubt() -> None:
    """A little drift is normal."""
    found = made_up.results()
    found.drift = 0.05
    assert [] == doubts(found, code_changed=False)


def test_reasons_for_doubt() -> None:
    """A machine that changed, code that was edited, a service faster than its own models."""
    found = made_up.results()
    found.drift = -0.2
    found.runs[Key(suite.OURS, "small", "8 clients")] = made_up.run(100, 48)
    assert [
        "bare images/s changed by -20% between the beginning and the end",
        "code or configuration was edited meanwhile",
        "2.00x of bare: cl-ml-serve | small | 8 clients",
    ] == doubts(found, code_changed=True)


def test_the_fingerprint_follows_the_code(tmp_path: Path) -> None:
    """It is that of the files' content and names."""
    (tmp_path / "serve_app").mkdir()
    file = tmp_path / "serve_app" / "app.py"
    file.write_text("a = 1")
    before = digest(tmp_path)
    assert before == digest(tmp_path)
    file.write_text("a = 2")
    assert before != digest(tmp_path)


def test_the_machine_is_described() -> None:
    """Figures without a machine and versions can't be compared."""
    machine = describe()
    assert machine["cores"] >= 1
    assert set(PACKAGES) == set(machine["versions"])
    assert "unknown" != machine["cpu"]


def test_a_peer_is_taken_at_its_best() -> None:
    """It may do more with another number of clients than 8."""
    found = made_up.results()
    before = verdicts(found)["images/s, of BentoML", "small"].value
    peer = found.run(suite.BENTOML, "small", suite.BUSY.title)
    found.runs[Key(suite.BENTOML, "small", suite.MANY.title)] = made_up.run(
        peer.images_per_s * 2, 40
    )
    found.runs[Key(suite.BENTOML, "small", suite.ONE.title)] = made_up.run(1, 40)
    after = verdicts(found)["images/s, of BentoML", "small"].value
    assert before is not None
    assert after == pytest.approx(before / 2)
