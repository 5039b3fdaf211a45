"""What several machines promise: who may join, how work spreads, and what survives what."""

import contextlib
import sys
import time
from collections.abc import Callable

import psutil
import pytest

from tests.cluster.cluster import Cluster, join
from tests.cluster.figures import say
from tests.cluster.load import Load, Report

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

CLIENTS = 8
REQUEST_LIMIT_S = 60.0
"""Of ``cluster.yaml``."""

CUT_OFF_S = 20.0

HEAD_BACK_S = 45.0
"""Promised: until the head serves again after all its processes were killed."""

METRICS_TIMEOUT_S = 40.0
"""Ray collects metrics every few seconds."""

SUBMIT = """
import ray
ray.init(address="{head}:6379")
print(ray.get(ray.remote(lambda: "submitted").remote()))
"""


def under_load(
    cluster: Cluster,
    face: bytes,
    action: Callable[[], object],
    at_least: int = 0,
) -> Report:
    """Send photographs to the head's door while something happens; print the figures."""
    load = Load(cluster.url("/v1/face_detection"), face, CLIENTS, pause_s=0.02)
    report = load.run_during(action, at_least)
    say(report)
    for answer in report.failures[:3]:
        say(f"{answer.status} {answer.text[:300]}")
    return report


def assert_clear(report: Report) -> None:
    """Check that each request was answered in time, with a result or a 503 that says why.

    All but those, at most one a client, whose machine died while it worked on them: HAProxy closes
    a connection that has served other requests before, as HTTP has it, and the client may repeat.
    """
    cut = [a for a in report.failures if "Server disconnected without sending" in a.text]
    unclear = [
        a
        for a in report.failures
        if a not in cut and (a.status != 503 or "urn:cl-ml-serve:" not in a.text)
    ]
    assert [] == unclear[:3]
    assert len(cut) <= CLIENTS
    assert report.slowest_s < REQUEST_LIMIT_S
    assert report.answers[-1].is_success


def test_without_secret(cluster: Cluster) -> None:
    """A machine without the secret is told that it needs it, and nothing is started there."""
    done = cluster.stranger.cl_serve("node", "join", cluster.head.address, check=False)
    assert "the cluster's secret is needed" in done.stdout.replace("\n", " ")
    assert [] == cluster.stranger.pids()


def test_wrong_secret(cluster: Cluster) -> None:
    """A wrong secret is refused, and nothing is left where it was tried."""
    done = cluster.stranger.cl_serve(
        "node", "join", cluster.head.address, stdin="0123456789abcdef\n", check=False
    )
    assert "refuses this secret" in done.stdout.replace("\n", " ")
    assert [] == cluster.stranger.pids()


@pytest.mark.parametrize("secret", [(), ("RAY_AUTH_MODE=token", "RAY_AUTH_TOKEN=0123456789abcdef")])
def test_no_code_from_strangers(cluster: Cluster, secret: tuple[str, ...]) -> None:
    """Who has no secret, or a wrong one, can't submit code to the cluster."""
    code = SUBMIT.format(head=cluster.head.address)
    done = cluster.stranger.run("env", *secret, sys.executable, "-c", code, check=False)
    assert done.returncode != 0
    assert "InvalidAuthToken" in done.stdout
    assert "submitted" not in done.stdout


def test_join_twice(cluster: Cluster) -> None:
    """A machine that is a node already stays one."""
    assert "Already a node of" in join(cluster, cluster.nodes[0])


def test_listing(cluster: Cluster) -> None:
    """The head lists every machine with its role and what runs there."""
    listing = cluster.head.cl_serve("node", "list").stdout
    for machine in cluster.members:
        (line,) = [line for line in listing.splitlines() if machine.address in line]
        role = {"head": "head", "pi-a": "pi", "gpu-b": "gpu"}[machine.name]
        assert [machine.name, machine.address, role, "alive"] == line.split()[:4]
        assert "faces 1" in line


def test_models_came_along(cluster: Cluster) -> None:
    """Each node has got the models from the head, in a cache of its own."""
    for node in cluster.nodes:
        found = [file.name for file in node.cache.rglob("*.onnx")]
        assert ["face_detection_full_range.onnx"] == found


def test_work_spreads(cluster: Cluster, face: bytes) -> None:
    """Requests at one door are answered by the doors and detectors of all machines."""
    before = {name: cluster.requests(name) for name in ("ingress", "faces")}
    report = under_load(cluster, face, lambda: None, at_least=300)
    assert {200: len(report.answers)} == report.by_status
    deadline_s = time.monotonic() + METRICS_TIMEOUT_S
    counts: dict[str, dict[str, int]] = {}
    while time.monotonic() < deadline_s:
        counts = {
            name: {machine: n - before[name].get(machine, 0) for machine, n in found.items()}
            for name, found in ((name, cluster.requests(name)) for name in before)
        }
        if all(sum(found.values()) >= len(report.answers) for found in counts.values()):
            break
        time.sleep(1)
    say(counts)
    for found in counts.values():
        assert min(found.values()) > 0


def test_preferred_machine(cluster: Cluster) -> None:
    """What prefers a role has started elsewhere before there was one, and starts there from now."""
    assert cluster.machine_of("image_conversion") == "head"
    cluster.restart_elsewhere("image_conversion")
    assert cluster.machine_of("image_conversion") == "gpu-b"


def test_node_cut_off(cluster: Cluster, face: bytes) -> None:
    """A node whose network is gone for 20 s hurts nobody for long, and comes back by itself."""
    node = cluster.nodes[0]

    def cut_off() -> None:
        time.sleep(1)
        node.unplug()
        time.sleep(CUT_OFF_S)
        node.plug_in()
        time.sleep(5)

    report = under_load(cluster, face, cut_off)
    say(f"whole again {cluster.wait_until_whole():.0f} s later")
    assert_clear(report)


def test_node_loses_power(cluster: Cluster, face: bytes) -> None:
    """A node that dies at once hurts nobody for long, and joins again with the kept secret.

    What preferred it falls back to another machine, and stays there.
    """
    node = cluster.nodes[1]

    def lose_power() -> None:
        time.sleep(1)
        node.lose_power()
        while node.name in cluster.replicas():
            time.sleep(0.5)
        time.sleep(3)

    report = under_load(cluster, face, lose_power)
    where = cluster.machine_of("image_conversion")
    node.boot()
    node.cl_serve("node", "join", cluster.head.address, "--role", "gpu")
    say(f"whole again {cluster.wait_until_whole():.0f} s later")
    assert_clear(report)
    assert where in {"head", "pi-a"}
    assert where == cluster.machine_of("image_conversion")  # Serve moves nothing back by itself


def test_raylet_of_node_dies(cluster: Cluster, face: bytes) -> None:
    """The Ray of a node that dies is started again without a person."""
    node = cluster.nodes[0]

    def kill_raylet() -> None:
        time.sleep(1)
        (killed,) = node.processes_named("raylet")
        killed.kill()
        while [raylet.pid for raylet in node.processes_named("raylet")] in ([], [killed.pid]):
            time.sleep(0.1)
        say(f"whole again after {cluster.wait_until_whole():.0f} s")

    assert_clear(under_load(cluster, face, kill_raylet))


def test_node_leaves(cluster: Cluster, face: bytes) -> None:
    """A node that leaves hands over first: not one request fails."""
    node = cluster.nodes[0]

    def leave() -> None:
        time.sleep(1)
        began_s = time.monotonic()
        say(node.cl_serve("node", "leave").stdout)
        say(f"left after {time.monotonic() - began_s:.0f} s")
        time.sleep(3)

    report = under_load(cluster, face, leave)
    assert [] == node.pids()
    assert {"head", "gpu-b"} == set(cluster.replicas())
    join(cluster, node)
    cluster.wait_until_whole()
    assert {200: len(report.answers)} == report.by_status


def test_head_dies(cluster: Cluster, face: bytes) -> None:
    """A head whose processes all die is started again with its graph, and the nodes join it."""
    began_s = time.monotonic()
    load = Load(cluster.url("/v1/face_detection"), face, CLIENTS, timeout_s=5, pause_s=0.2)

    def kill_head() -> None:
        for pid in cluster.head.pids():
            with contextlib.suppress(psutil.NoSuchProcess):  # it ended with the one before it
                process = psutil.Process(pid)
                if "serve_app.stack.supervisor" not in process.cmdline():
                    process.kill()
        time.sleep(5)
        say(f"whole again after {5 + cluster.wait_until_whole(120):.0f} s")
        time.sleep(2)

    report = load.run_during(kill_head)
    say(f"{report}; in all {time.monotonic() - began_s:.0f} s")
    assert report.longest_gap_s < HEAD_BACK_S
    assert report.answers[-1].is_success


def test_leaving_a_head_that_is_gone(cluster: Cluster) -> None:
    """A node can leave, and ends all its processes, when there is no head any more."""
    node = cluster.nodes[1]
    cluster.head.cl_serve("down")
    printed = node.cl_serve("node", "leave").stdout
    assert "Left (" in printed
    assert [] == node.pids()
