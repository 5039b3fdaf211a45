"""What ``cl-serve tune --verify`` measures: real stacks, over HTTP."""

import re
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from deployments.runtime.errors import StackError
from deployments.runtime.models import ModelStore
from serve_app.cli.tune import command, machine
from serve_app.cli.tune.bench import Pace
from serve_app.cli.tune.command import TEXT
from serve_app.cli.tune.replica import Load
from serve_app.cli.tune.verify import Request, drive
from serve_app.stack import RunningStack

PHOTO = files("serve_app.cli").joinpath("sample.jpg").read_bytes()


async def test_a_stack_under_load(running: RunningStack) -> None:
    """Photos and texts go through the whole graph; the CPU of all its processes is counted."""
    outputs = ("face_embedding", "clip_text_embedding")
    figures = await drive(running, Request(PHOTO, TEXT, outputs), Load(2, 0.1, 1.0))
    assert figures.per_s > 0
    assert figures.p50_ms <= figures.p95_ms
    assert figures.cpu_ms > 1
    assert figures.memory_mb > 500


async def test_a_request_that_fails(running: RunningStack) -> None:
    """A stack that can't do what it is asked for is no choice: what it says is shown."""
    with pytest.raises(StackError, match="a request failed with status 4"):
        await drive(running, Request(b"no photo", TEXT, ("face_detection",)), Load(1, 0.0, 0.1))


async def test_nothing_in_time(running: RunningStack) -> None:
    """A window without an answer is no measurement."""
    with pytest.raises(StackError, match="no answer within 1e-06 s"):
        await drive(running, Request(PHOTO, TEXT, ("face_detection",)), Load(1, 0.0, 1e-6))


async def test_a_stack_that_is_gone(running: RunningStack) -> None:
    """A connection that is refused names the address."""
    gone = replace(running, url="http://127.0.0.1:9")
    with pytest.raises(StackError, match=r"http://127\.0\.0\.1:9 does not answer"):
        await drive(gone, Request(PHOTO, TEXT, ("face_detection",)), Load(1, 0.0, 0.1))


def test_the_command(store: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file gets a stack of this machine alone, without jobs, and is kept as it is the best."""
    del store  # the models are there now
    monkeypatch.setattr(command, "MAX_STACKS", 1)
    monkeypatch.setattr(command, "QUICK", Pace(0.0, 0.3, 1, 1, (1,)))
    monkeypatch.setattr(machine, "cores", lambda: 1)
    monkeypatch.setenv("COLUMNS", "120")
    application = {
        "import_path": "serve_app.app:build",
        "args": {"graph": {"face_detection": {"needs": ["image"]}}, "jobs": {}},
        "deployments": [{"name": "jobs"}, {"name": "ingress"}],
    }
    path = tmp_path / "tiny.yaml"
    raw = {"applications": [application], "cluster": {"address": "192.0.2.1"}}
    path.write_text(yaml.safe_dump(raw))
    options = ["--quick", "--verify", "--config", path, "--output", tmp_path / "tuned.yaml"]
    result = CliRunner().invoke(
        command.tune, [*map(str, options), "--state", str(tmp_path / "state")]
    )
    assert (0, None) == (result.exit_code, result.exception)
    assert "measuring a stack: the file as it is" in result.stdout
    assert re.search(r"Stacks, over HTTP\s+Tried .*\n.*\n *the file as it is +\d", result.stdout)
    assert "tiny.yaml suits this machine" in result.stdout
