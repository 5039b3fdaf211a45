"""The loop of a supervisor: looks whether a machine's Ray still lives, and starts it again.

Heads and nodes share it. It runs in a small process without Ray in it.
"""

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Protocol

import psutil

from deployments.runtime.errors import StackError
from serve_app.stack.processes import MARKER, Mark
from serve_app.stack.stack import Progress

LOOK_S = 1.0
RETRY_S = 5.0
"""Between two attempts to start again, when one fails."""


class Charge(Protocol):
    """What a supervisor keeps alive."""

    @property
    def mark(self) -> Mark:
        """What tells its processes from others."""
        ...

    @property
    def ground(self) -> tuple[str, ...]:
        """Names of its processes that nothing of Ray's restarts."""
        ...

    def is_wanted(self) -> bool:
        """Whether it shall run; when not, the supervisor ends."""
        ...

    def is_lost(self) -> bool:
        """Whether it must be started again although its ground lives."""
        ...

    def restart(self, progress: Progress) -> None:
        """End what is left of it and start it again. Raises ``StackError``."""
        ...


def keep_alive(charge: Charge, progress: Progress) -> None:
    """Keep something alive until it is not wanted any more."""
    ground = _ground(charge)
    complaint = ""
    while charge.is_wanted():
        alive = len(ground) == len(charge.ground) and all(_lives(process) for process in ground)
        if alive and not charge.is_lost():
            time.sleep(LOOK_S)
            continue
        if not complaint:
            progress("Ray has died; starting it again" if not alive else "Starting Ray again")
        began_s = time.monotonic()
        try:
            charge.restart(progress)
        except StackError as error:
            if complaint != str(error):  # a head that is away for a day is worth one line
                complaint = str(error)
                progress(f"It did not start: {complaint}")
            time.sleep(RETRY_S)
        else:
            complaint = ""
            progress(f"Runs again after {time.monotonic() - began_s:.0f} s")
        ground = _ground(charge)


def start_in_background(module: str, folder: Path, mark: Mark) -> subprocess.Popen[bytes]:
    """Run a supervisor's module with a state folder; ending what bears ``mark`` ends it too."""
    with (folder / "supervisor.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", module, str(folder)],
            env={**os.environ, MARKER: mark.stack_id},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def log_line(step: str) -> None:
    """Write one line of a supervisor's log."""
    print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {step}", flush=True)  # noqa: T201 - its log


def _ground(charge: Charge) -> list[psutil.Process]:
    found: list[psutil.Process] = []
    for process in charge.mark.processes():
        with contextlib.suppress(psutil.Error):
            if process.name() in charge.ground:
                found.append(process)
    return found


def _lives(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False
