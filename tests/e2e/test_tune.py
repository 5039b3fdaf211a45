"""What ``cl-serve tune --verify`` measures: real stacks, over HTTP."""

from dataclasses import replace
from importlib.resources import files

import pytest

from deployments.runtime.errors import StackError
from serve_app.cli.tune.command import TEXT
from serve_app.cli.tune.replica import Load
from serve_app.cli.tune.verify import Request, drive, verify
from serve_app.config import ServeFile
from serve_app.settings import config_folder
from serve_app.stack import RunningStack
from tests.serve_app.cli.tune.test_tuner import Told

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


def test_a_stack_of_its_own() -> None:
    """A file gets a stack of this machine alone, without jobs, which is gone afterwards."""
    application = {
        "import_path": "serve_app.app:build",
        "args": {"graph": {"face_detection": {"needs": ["image"]}}, "jobs": {}},
        "deployments": [{"name": "jobs"}, {"name": "ingress"}],
    }
    raw = {"applications": [application], "cluster": {"address": "192.0.2.1"}}
    file = ServeFile(raw, config_folder() / "tiny.yaml")
    told = Told()
    request = Request(PHOTO, TEXT, ("face_detection",))
    found = verify({"tiny": file}, request, Load(1, 0.1, 0.5), told)
    assert found["tiny"].per_s > 0
    assert (1, ["a stack: tiny"]) == (told.expected, told.titles)
