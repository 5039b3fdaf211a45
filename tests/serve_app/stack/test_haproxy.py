"""The wrapper around HAProxy, with the real one: it survives its manager, and being killed."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import psutil
import pytest

from deployments.runtime.errors import NodeUnavailableError
from serve_app.http.problems import problem_body
from serve_app.stack.haproxy import write_wrapper
from serve_app.stack.ports import free_ports

TIMEOUT_S = 20.0

GUARDIAN_S = 2.5
"""A guardian watches from the third second on."""

CONFIG = """\
global
    hard-stop-after 1s
defaults
    mode http
    timeout connect 1s
    timeout client 5s
    timeout server 5s
    option redispatch 1
    errorfile 503 /nonexistent
frontend prometheus
    bind *:{metrics}
    http-request return status 200 content-type text/plain string metrics
frontend http
    bind 127.0.0.1:{http}
    default_backend default_backend
backend default_backend
    http-request return status 404 content-type text/plain lf-string "Path '%[path]' not found."
"""

SERVER = """\
backend app
    server one 127.0.0.1:{app} check
"""

MANAGER = "import subprocess, sys, time; subprocess.run(sys.argv[1:]); time.sleep(60)"
"""Stands for Serve's manager: a process that starts HAProxy, and outlives it."""


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for what must come true."""
    deadline_s = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


class Door:
    """A wrapper in a folder, its ports, and the managers that have started it."""

    def __init__(self, folder: Path) -> None:
        """Write the wrapper and choose ports."""
        self.config = folder / "haproxy.cfg"
        self._wrapper = write_wrapper(folder)
        self.http, self.metrics, stats = free_ports(3)
        self._environment = {
            **os.environ,
            "RAY_SERVE_HAPROXY_METRICS_PORT": str(self.metrics),
            "RAY_SERVE_HAPROXY_STATS_PORT": str(stats),
            "DOOR": str(folder),
        }

    def start(self, *, with_server: bool = False) -> psutil.Process:
        """Let a manager start HAProxy with a new configuration; return the manager."""
        text = CONFIG + (SERVER if with_server else "")
        self.config.write_text(text.format(http=self.http, metrics=self.metrics, app=1))
        arguments = [str(self._wrapper), "-db", "-f", str(self.config)]
        return psutil.Popen(
            [sys.executable, "-c", MANAGER, *arguments],
            env=self._environment,
            stderr=subprocess.DEVNULL,
        )

    def pid(self) -> int:
        """Process id of the HAProxy that serves."""
        record = Path(f"{self.config}.pid")
        return int(record.read_text()) if record.exists() and record.read_text().strip() else 0

    def serving(self) -> bool:
        """Whether HAProxy has taken over and answers."""
        try:
            httpx2.get(f"http://127.0.0.1:{self.http}/")
            return psutil.Process(self.pid()).name() == "haproxy"
        except (httpx2.HTTPError, psutil.Error):
            return False

    def end(self) -> None:
        """End every process that has to do with it."""
        for process in self.processes():
            process.kill()

    def processes(self) -> list[psutil.Process]:
        """Find every process that has to do with it."""
        found: list[psutil.Process] = []
        mark = f"DOOR={self._environment['DOOR']}".encode()
        for process in psutil.process_iter():
            try:
                if mark in Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0"):
                    found.append(process)
            except (OSError, psutil.Error):
                continue
        return found


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    """Give a door and close it."""
    door = Door(tmp_path)
    yield door
    door.end()
    wait_until(lambda: not door.processes())


def kill(process: psutil.Process) -> None:
    """Kill a process of this one and take its exit code."""
    process.kill()
    process.wait()


def test_answer_without_replicas(door: Door) -> None:
    """Before a replica is known, the answer is a problem that says to try again."""
    manager = door.start()
    wait_until(door.serving)
    answer = httpx2.get(f"http://127.0.0.1:{door.http}/v1/hash")
    assert 503 == answer.status_code
    assert "application/problem+json" == answer.headers["content-type"]
    assert "1" == answer.headers["retry-after"]
    ours = problem_body(NodeUnavailableError(answer.json()["detail"]), "")
    ours.pop("request_id")
    assert ours == answer.json()
    kill(manager)


def test_internals_stay_on_loopback(door: Door) -> None:
    """Metrics listen on loopback, whatever the configuration says."""
    manager = door.start()
    wait_until(door.serving)
    listening = {
        connection.laddr
        for connection in psutil.Process(door.pid()).net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    }
    assert {("127.0.0.1", door.http), ("127.0.0.1", door.metrics)} == listening
    kill(manager)


def test_killed_haproxy_comes_back(door: Door) -> None:
    """A killed HAProxy is started again while its manager lives."""
    manager = door.start()
    wait_until(door.serving)
    first = door.pid()
    time.sleep(GUARDIAN_S)
    psutil.Process(first).kill()
    wait_until(lambda: door.pid() != first and door.serving())
    kill(manager)


def test_stopped_haproxy_stays_away(door: Door) -> None:
    """Where the manager ends with it, nobody wants it back."""
    manager = door.start()
    wait_until(door.serving)
    first = door.pid()
    time.sleep(GUARDIAN_S)
    psutil.Process(first).kill()
    kill(manager)
    time.sleep(GUARDIAN_S)
    assert first == door.pid()
    assert not door.serving()


def test_killed_manager(door: Door) -> None:
    """HAProxy outlives its manager; its successor knows the replicas that it knew."""
    manager = door.start(with_server=True)
    wait_until(door.serving)
    first = door.pid()
    kill(manager)
    assert door.serving()
    successor = door.start()
    wait_until(lambda: door.pid() != first and door.serving())
    text = door.config.read_text()
    assert "server one" in text
    assert "check tcp-ut 5s" in text
    assert 1 == text.count("    option http-buffer-request\n")
    assert 1 == text.count("    srvtcpka-cnt 3\n")
    wait_until(lambda: not psutil.pid_exists(first))
    kill(successor)
