"""The configurations between two versions: somebody answers in each of them."""

from typing import Any

from serve_app.redeploy.steps import steps
from tests.serve_app.redeploy.test_changes import add_exif, application, deployment, file, set_model

Document = dict[str, Any]


def counts(step: Document) -> dict[str, int]:
    """Replicas by deployment, as a document says."""
    return {e["name"]: e.get("num_replicas", 1) for e in application(step)["deployments"]}


def test_live_change() -> None:
    """What restarts nothing is one step."""
    old, new = file(), file(lambda d: deployment(d, "hash").update(num_replicas=2))
    assert [new.raw] == steps(old, new, ())


def test_single_replicas_get_company() -> None:
    """Deployments with one replica have two while they change; the others are left alone."""
    old, new = file(), file(set_model)
    found = steps(old, new, {"ingress", "hash", "face_detection"})
    two = {"ingress": 2, "hash": 2, "face_detection": 2}
    assert [two, two, counts(new.raw)] == [counts(step) for step in found]
    args = [application(step)["args"] for step in found]
    assert [application(f.raw)["args"] for f in (old, new, new)] == args
    assert found[-1] == new.raw


def test_replicas_that_suffice() -> None:
    """Where each deployment has two anyway, there is nothing to prepare."""

    def two(document: Document) -> None:
        for entry in application(document)["deployments"]:
            entry["num_replicas"] = 2

    def two_and_model(document: Document) -> None:
        two(document)
        set_model(document)

    old, new = file(two), file(two_and_model)
    assert [new.raw] == steps(old, new, {"ingress", "hash", "face_detection"})


def test_scaling_deployment() -> None:
    """One that scales by itself is kept from scaling down to its last replica."""

    def scaling(document: Document) -> None:
        deployment(document, "hash")["autoscaling_config"] = {"min_replicas": 0, "max_replicas": 1}

    def scaling_and_model(document: Document) -> None:
        scaling(document)
        set_model(document)

    first = steps(file(scaling), file(scaling_and_model), {"hash"})[0]
    expected = {"min_replicas": 2, "max_replicas": 2}
    assert expected == deployment(first, "hash")["autoscaling_config"]


def test_one_per_machine() -> None:
    """Where a second replica needs a second machine, none is asked for."""

    def spread(document: Document) -> None:
        deployment(document, "hash")["max_replicas_per_node"] = 1

    def spread_and_model(document: Document) -> None:
        spread(document)
        set_model(document)

    new = file(spread_and_model)
    assert [new.raw] == steps(file(spread), new, {"hash"})


def test_new_node_needs_no_company() -> None:
    """A deployment that is not there yet can't leave a gap."""
    found = steps(file(), file(add_exif), {"hash"})
    assert ["exif" in counts(step) for step in found] == [False, False, False]


def test_node_that_moves() -> None:
    """A node is in both places while ingress replicas of both versions run."""

    def together(document: Document) -> None:
        application(document)["args"]["hosts"] = {"both": ["face_detection", "hash"]}
        application(document)["deployments"] = [{"name": "ingress", "num_replicas": 2}]

    old, new = file(), file(together)
    found = [application(step)["args"] for step in steps(old, new, ())]
    assert [
        (False, {}),
        (False, {"both": ["face_detection", "hash"]}),
        (True, {"face_detection": ["face_detection"], "hash": ["hash"]}),
        (True, {}),
        (True, {}),
    ] == [("hosts" in args, args.get("also_hosted", {})) for args in found]
    replicas = [counts(step) for step in steps(old, new, ())]
    everywhere = {"ingress": 2, "hash": 2, "face_detection": 2, "both": 2}
    assert [everywhere, everywhere] == replicas[1:3]
    assert {"ingress": 2} == replicas[-1]
