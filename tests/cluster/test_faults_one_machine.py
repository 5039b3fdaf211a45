"""Processes killed while 16 clients send requests: what is retried, what comes back by itself."""

import contextlib
import time
from collections.abc import Callable

import psutil
import pytest

from deployments.runtime.errors import StackError
from serve_app.status import read_status
from tests.cluster.load import NO_ANSWER, Report
from tests.cluster.one_machine import CLIENTS, OneMachine

pytestmark = pytest.mark.cluster

BACK_TIMEOUT_S = 180.0


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for what must come true; whoever is asked may be starting just now."""
    deadline_s = time.monotonic() + BACK_TIMEOUT_S
    while True:
        with contextlib.suppress(StackError, StopIteration):
            if condition():
                return
        assert time.monotonic() < deadline_s
        time.sleep(0.2)


def healthy(machine: OneMachine) -> bool:
    """Whether clients are answered and every deployment has its replicas."""
    found = read_status(machine.stack)
    return not found.problem and all(
        deployment.status == "healthy" for deployment in found.deployments.values()
    )


@pytest.mark.parametrize("deployment", ["hash", "face_detection", "ingress"])
def test_killed_replica(machine: OneMachine, deployment: str) -> None:
    """A request that was with a killed replica is answered by another one, or by its successor."""
    pid = machine.replica_pids(deployment)[0]

    def kill() -> None:
        time.sleep(1)
        psutil.Process(pid).kill()
        wait_until(lambda: pid not in machine.replica_pids(deployment) and healthy(machine))

    assert machine.under_load(kill).failures == []


def test_killed_controller(machine: OneMachine) -> None:
    """Serving needs no controller; Ray starts another one."""
    killed = kill_under_load(machine, "ray::ServeController")
    assert killed.failures == []


@pytest.mark.parametrize("name", ["haproxy", "ray::HAProxyManager"])
def test_killed_proxy(machine: OneMachine, name: str) -> None:
    """The door is open again at once; whoever was in it is told, or finds it shut for a moment."""
    report = kill_under_load(machine, name)
    assert set(report.by_status) <= {200, 503, NO_ANSWER}
    last = sorted(report.answers, key=lambda answer: answer.began_s)[-CLIENTS:]
    assert {200} == {answer.status for answer in last}


def test_status_tells_the_truth(machine: OneMachine) -> None:
    """While nobody is answered, status says so, although Serve calls the graph running."""
    assert machine.run("status").returncode == 0
    haproxy = machine.process("haproxy")
    haproxy.suspend()
    try:
        done = machine.run("status")
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):  # Serve replaces one that does not react
            haproxy.resume()
    assert done.returncode == 1
    assert "Not serving" in done.stdout
    wait_until(lambda: machine.run("status", "--json").returncode == 0)


@pytest.mark.parametrize("names", [("gcs_server",), ()], ids=["gcs", "whole head"])
def test_killed_head(machine: OneMachine, names: tuple[str, ...]) -> None:
    """The supervisor starts the same graph again, without a person."""
    state = machine.state
    killed = [
        process
        for process in state.mark.processes()
        if process.name() in names
        or (not names and "serve_app.stack.supervisor" not in process.cmdline())
    ]

    def kill() -> None:
        time.sleep(1)
        for process in killed:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        wait_until(lambda: all(not process.is_running() for process in killed))
        wait_until(lambda: healthy(machine))

    report = machine.under_load(kill, at_least=0)
    assert set(report.by_status) <= {200, 503, NO_ANSWER}
    assert state == machine.state
    assert machine.under_load(lambda: None, at_least=200).failures == []


def kill_under_load(machine: OneMachine, name: str) -> Report:
    """Kill one process and wait until another one does its work."""
    process = machine.process(name)

    def kill() -> None:
        time.sleep(1)
        process.kill()
        wait_until(lambda: machine.process(name) != process and healthy(machine))

    return machine.under_load(kill)
