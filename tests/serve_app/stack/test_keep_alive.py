"""The supervisor's loop, on a process that dies: started again, complained about once, ended."""

import os
import subprocess
import time
import uuid
from pathlib import Path

import pytest

from deployments.runtime.errors import StackError
from serve_app.stack import keep_alive as module
from serve_app.stack.keep_alive import keep_alive, log_line, start_in_background
from serve_app.stack.processes import MARKER, Mark
from serve_app.stack.stack import Progress


class Sleeper:
    """A process that sleeps; ``failures`` of its starts fail, and it is wanted for ``starts``."""

    ground = ("sleep",)

    def __init__(self, folder: Path, *, starts: int, failures: int = 0, lost: int = 0) -> None:
        """Say what will happen; nothing is started."""
        self.mark = Mark(uuid.uuid4().hex, folder)
        self.started: list[subprocess.Popen[bytes]] = []
        self._starts = starts
        self._failures = failures
        self._lost = lost

    def is_wanted(self) -> bool:
        """Be wanted until it was started so often."""
        return len(self.started) < self._starts

    def is_lost(self) -> bool:
        """Be lost as often as was said."""
        self._lost -= 1
        return self._lost >= 0

    def restart(self, progress: Progress) -> None:
        """Start it, or fail."""
        del progress
        if self._failures:
            self._failures -= 1
            raise StackError("not yet")
        environment = {**os.environ, MARKER: self.mark.stack_id}
        self.started.append(subprocess.Popen(["sleep", "60"], env=environment))  # noqa: S607 - any
        if len(self.started) < self._starts and self._lost <= 0:
            self.started[-1].kill()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look and try again without waiting."""
    monkeypatch.setattr(module, "LOOK_S", 0.01)
    monkeypatch.setattr(module, "RETRY_S", 0.01)


@pytest.fixture
def said() -> list[str]:
    """What was said."""
    return []


def supervise(sleeper: Sleeper, said: list[str]) -> None:
    """Run the loop to its end, and end what it has started."""
    try:
        keep_alive(sleeper, said.append)
    finally:
        for process in sleeper.started:
            process.kill()
            process.wait()


def test_not_wanted(tmp_path: Path, said: list[str]) -> None:
    """What nobody wants is not started."""
    supervise(Sleeper(tmp_path, starts=0), said)
    assert [] == said


def test_dead(tmp_path: Path, said: list[str]) -> None:
    """A process that dies again and again is started again and again."""
    supervise(Sleeper(tmp_path, starts=3), said)
    assert 3 == said.count("Ray has died; starting it again")
    assert 3 == len([step for step in said if step.startswith("Runs again after")])


def test_failure(tmp_path: Path, said: list[str]) -> None:
    """A start that fails is tried again; the same reason is said once."""
    supervise(Sleeper(tmp_path, starts=1, failures=3), said)
    assert ["Ray has died; starting it again", "It did not start: not yet"] == said[:2]
    assert 3 == len(said)


def test_lost(tmp_path: Path, said: list[str]) -> None:
    """What lives and is lost is started again as well."""
    supervise(Sleeper(tmp_path, starts=2, lost=1), said)
    assert "Starting Ray again" in said


def test_background(tmp_path: Path) -> None:
    """A supervisor in the background bears the mark of what it looks after, and has a log."""
    (tmp_path / "looks_after.py").write_text(
        f"import os, sys\nprint(os.environ[{MARKER!r}], sys.argv[1])\n"
    )
    mark = Mark(uuid.uuid4().hex, tmp_path / "ray")
    old = os.environ.get("PYTHONPATH", "")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), old]))
        supervisor = start_in_background("looks_after", tmp_path, mark)
    assert supervisor.wait(30) == 0
    assert f"{mark.stack_id} {tmp_path}\n" == (tmp_path / "supervisor.log").read_text()


def test_log_line(capsys: pytest.CaptureFixture[str]) -> None:
    """A line of the log has date and time."""
    log_line("step")
    assert capsys.readouterr().out[:3] == time.strftime("%Y")[:3]
