"""Ending exactly the processes that carry a stack's mark, and naming who holds a port."""

import os
import socket
import subprocess
import sys
import uuid
from pathlib import Path

import psutil
import pytest

from serve_app.stack.processes import MARKER, Mark, listener_on

SLEEP = "import time; time.sleep(60)"
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True)"
PARENT = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {SLEEP!r}]);"


def start(code: str, environment: dict[str, str], *, wait: bool = False) -> subprocess.Popen[bytes]:
    """Start a Python process; with ``wait``, return when it has printed a line."""
    process = subprocess.Popen(
        [sys.executable, "-c", f"{code}; import time; time.sleep(60)"],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
    )
    if wait and process.stdout is not None:
        process.stdout.readline()
    return process


def test_ends_its_processes_and_no_others(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Children, deaf processes and those without the mark but with a log there end; others stay."""
    monkeypatch.setattr("serve_app.stack.processes.TERM_TIMEOUT_S", 0.5)
    ours = Mark(uuid.uuid4().hex, tmp_path / "ours")
    ours.folder.mkdir()
    with_log = f"log = open({str(ours.folder / 'log')!r}, 'w'); print(flush=True)"
    elsewhere = f"log = open({str(tmp_path / 'ours.log')!r}, 'w'); print(flush=True)"
    started = [
        start(STUBBORN, {MARKER: ours.stack_id}, wait=True),
        start(PARENT + "print(flush=True)", {MARKER: ours.stack_id}, wait=True),
        start(with_log, {}, wait=True),
        other := start(elsewhere, {MARKER: uuid.uuid4().hex}, wait=True),
    ]
    try:
        assert len(ours.processes()) == 4
        assert ours.end_processes() == 4
        assert ours.processes() == []
        assert psutil.Process(other.pid).is_running()
        assert ours.end_processes() == 0
    finally:
        for process in started:
            process.kill()
            process.communicate()


def test_names_who_listens() -> None:
    """A taken port is told with program and pid; a free one gives None."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        assert listener_on(port) is None
        listener.listen()
        holder = listener_on(port)
        assert holder is not None
        assert f"pid {os.getpid()}" in holder
