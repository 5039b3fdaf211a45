"""Redeploys while 16 clients send requests: none of them fails, whatever changes."""

import copy
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.cluster.load import Report
from tests.cluster.one_machine import OneMachine

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module", autouse=True)
def _last_of_one_machine(machine: OneMachine) -> Iterator[None]:
    """End the machine's stack with its last tests, so that a cluster has the processors alone."""
    yield
    assert machine.run("down").returncode == 0


def deploy(
    machine: OneMachine, *options: str, expected: int = 0, at_least: int = 2000
) -> tuple[Report, str]:
    """Deploy the machine's document under load; return what clients got and what was said."""
    said: list[str] = []

    def action() -> None:
        done = machine.run("deploy", *options, machine.file())
        said.append(done.stdout)
        assert expected == done.returncode

    return machine.under_load(action, at_least), said[0]


def test_live_changes(machine: OneMachine) -> None:
    """Batch size, thresholds and the number of replicas change without a replica's restart."""
    before = machine.replicas()
    machine.deployment("hash")["num_replicas"] = 2
    machine.deployment("hash")["user_config"] = {"hash": {"max_batch_size": 3}}
    machine.deployment("face_detection")["user_config"] = {
        "face_detection": {"params": {"confidence_threshold": 0.99}},
    }
    report, said = deploy(machine)
    assert report.failures == []
    assert "rolling" not in said
    after = machine.replicas()
    assert before["ingress"] == after["ingress"]
    assert before["face_detection"] == after["face_detection"]
    assert before["hash"] < after["hash"]
    assert len(after["hash"]) == 2
    photo = Path("serve_app/cli/sample.jpg").read_bytes()
    faces = httpx2.post(f"{machine.state.url}/v1/face_detection", content=photo).json()["faces"]
    assert faces == [], "the sample's face has a confidence of 0.94"


def test_model_variant(machine: OneMachine) -> None:
    """Another model replaces every replica, one after the other."""
    machine.deployment("face_detection").pop("user_config")
    machine.args["graph"]["face_detection"]["model"] = "blazeface_short_range"
    before = machine.replicas()
    report, said = deploy(machine)
    assert report.failures == []
    assert "blazeface_short_range" in said
    after = machine.replicas()
    assert {name: len(ids) for name, ids in before.items()} == {
        name: len(ids) for name, ids in after.items()
    }
    assert all(before[name].isdisjoint(after[name]) for name in before)


def test_node_added(machine: OneMachine) -> None:
    """A new node answers, and those beside it never stop."""
    machine.args["graph"]["exif"] = {"needs": ["upload"]}
    report, said = deploy(machine)
    assert report.failures == []
    assert "new" in said
    photo = Path("serve_app/cli/sample.jpg").read_bytes()
    assert httpx2.post(f"{machine.state.url}/v1/exif", content=photo).status_code == 200


def test_rollback_removes_the_node(machine: OneMachine) -> None:
    """Going back is a redeploy like any other: what is gone is unknown, the rest never stops."""
    machine.args["graph"].pop("exif")
    report = machine.under_load(lambda: machine.run("rollback"), at_least=2000)
    assert report.failures == []
    assert set(machine.replicas()) == {"ingress", "hash", "face_detection"}
    assert httpx2.post(f"{machine.state.url}/v1/exif", content=b"x").status_code == 404
    assert machine.run("diff", machine.file()).stdout.strip() == "Nothing changes."


def test_version_that_can_not_answer(machine: OneMachine) -> None:
    """A node that its trial finds broken is not deployed; nothing changes."""
    before = machine.replicas()
    document = copy.deepcopy(machine.document)
    machine.args["graph"]["face_detection"]["provider"] = "cuda"
    report, said = deploy(machine, expected=1, at_least=500)
    machine.document = document
    assert report.failures == []
    assert "nothing was changed" in said
    assert "cuda" in said
    assert before == machine.replicas()


@pytest.mark.parametrize("options", [(), ("--no-trial",)], ids=["tried out", "not tried out"])
def test_version_that_does_not_start(machine: OneMachine, options: tuple[str, ...]) -> None:
    """Replicas that fail to start replace nothing; the reason is shown, the old ones serve."""
    document = copy.deepcopy(machine.document)
    machine.args["graph"]["hash"]["capability"] = "broken_hash"
    report, said = deploy(machine, *options, expected=1, at_least=2000 if options else 500)
    machine.document = document
    assert report.failures == []
    assert "this release is broken" in said
    assert {"ingress": 2, "hash": 2, "face_detection": 1} == {
        name: len(ids) for name, ids in machine.replicas().items()
    }
    assert machine.run("diff", machine.file()).stdout.strip() == "Nothing changes."


def test_node_moved_to_another_deployment(machine: OneMachine) -> None:
    """What runs where can change as well: here both nodes into one process."""
    machine.args["hosts"] = {"both": ["face_detection", "hash"]}
    entries = machine.document["applications"][0]["deployments"]
    entries[:] = [entry for entry in entries if entry["name"] == "ingress"]
    report, _ = deploy(machine)
    assert report.failures == []
    assert set(machine.replicas()) == {"ingress", "both"}
