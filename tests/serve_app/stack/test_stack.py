"""The stack's refusals: each before anything is started, each with what to do next."""

import json
import socket
from collections import namedtuple
from dataclasses import fields
from pathlib import Path

import pytest

from deployments.runtime.errors import StackError
from serve_app.config import load_file
from serve_app.settings import config_folder
from serve_app.stack import RunningStack, Stack
from serve_app.stack.ports import free_ports

DiskUsage = namedtuple("DiskUsage", "total used free")  # noqa: PYI024 - stands for shutil's own


def test_taken_port_names_its_holder(tmp_path: Path) -> None:
    """A taken HTTP port is found before Ray starts."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        file = load_file(config_folder() / "serve.yaml").with_overrides(port=port, offline=None)
        with pytest.raises(StackError) as raised:
            Stack(tmp_path).up(file, print)
    assert f"port {port} is taken by" in str(raised.value)
    assert "cl-serve up --port N" in str(raised.value)


def test_full_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk is found before Ray starts and fails for reasons of its own."""
    monkeypatch.setattr("shutil.disk_usage", lambda _: DiskUsage(10, 10, 0))
    port = free_ports(1)[0]
    file = load_file(config_folder() / "serve.yaml").with_overrides(port=port, offline=None)
    with pytest.raises(StackError, match=r"is full: 0 MiB are free and 512 MiB are needed"):
        Stack(tmp_path).up(file, print)


def test_failed_start_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Ray does not start, its own words are shown and the state file is gone."""
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho no such luck\nexit 3\n", encoding="utf-8")
    python.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(python))
    port = free_ports(1)[0]
    file = load_file(config_folder() / "serve.yaml").with_overrides(port=port, offline=None)
    with pytest.raises(StackError, match="Ray did not start:\nno such luck"):
        Stack(tmp_path / "state").up(file, print)
    assert not (tmp_path / "state" / "stack.json").exists()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"stack_id": 1}'])
def test_damaged_state_counts_as_not_running(tmp_path: Path, content: str) -> None:
    """A state file cut off by a power failure does not stand in the way."""
    (tmp_path / "stack.json").write_text(content, encoding="utf-8")
    assert Stack(tmp_path).running() is None
    assert Stack(tmp_path).down() == 0


def test_stale_state_is_removed(tmp_path: Path) -> None:
    """A state file whose processes are gone, as after a reboot, is removed."""
    state = tmp_path / "stack.json"
    content = dict.fromkeys((field.name for field in fields(RunningStack)), "x")
    state.write_text(json.dumps(content), encoding="utf-8")
    assert Stack(tmp_path).running() is None
    assert not state.exists()


def test_free_ports() -> None:
    """Ports differ, are free, and none can be given to an outgoing connection meanwhile."""
    ports = free_ports(20)
    assert len(set(ports)) == 20
    for port in ports:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", port))
    first_outgoing = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii")
    assert max(ports) < int(first_outgoing.split()[0])
