"""What is kept of one file: one JSON object on one line, and what a later run makes of it.

A line holds ``path``, ``size_bytes``, ``modified_at``, ``request`` (what was asked for, as the
query of the request) and either ``outputs`` and ``problems``, as the service answers, or one
``problem`` when there is nothing at all.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from click import UsageError
from pydantic import BaseModel

from serve_app.cli.analyze.files import FileVersion

Outcome = dict[str, Any]
"""Either ``outputs`` and ``problems``, or ``problem``."""


class State(Enum):
    """What a later run does with a file that has not changed."""

    DONE = "done"
    FAILED = "failed"
    """It is the file's fault: not sent again unless that is asked for."""
    RETRY = "retry"
    """The service, or something on this machine, was at fault: sent again."""


class Problem(BaseModel):
    """Why there is no result: as the service says it, or without ``status`` from this machine."""

    title: str = "Unknown"
    detail: str = ""
    status: int | None = None
    type: str | None = None
    request_id: str | None = None

    @property
    def reason(self) -> str:
        """One sentence."""
        return f"{self.title}: {self.detail}" if self.detail else self.title

    @property
    def is_of_the_file(self) -> bool:
        """Whether the same file would fail again: the service answered with a 4xx status."""
        return self.status is not None and 400 <= self.status < 500  # noqa: PLR2004 - RFC 9110


@dataclass(frozen=True, slots=True)
class Kept:
    """What stays in memory of a line; ``reason`` says why there is less than was asked for."""

    version: FileVersion
    state: State
    reason: str = ""


class Record(BaseModel):
    """A line as it is read again: all but the outputs."""

    path: str
    size_bytes: int
    modified_at: str
    request: str
    problems: dict[str, Problem | None] | None = None
    problem: Problem | None = None

    def kept(self, request: str, source: Path) -> Kept:
        """Return what matters of it.

        Raises:
            UsageError: it answers another request than this run's; ``source`` is where it is from.

        """
        if self.request != request:
            raise UsageError(
                f"{source} holds results of another request:\n"
                f"  there: {unquote(self.request)}\n  now:   {unquote(request)}\n"
                "Give the same --outputs and --param as before, or name another file with --out.",
            )
        version = FileVersion(self.path, self.size_bytes, self.modified_at)
        found = {name: one for name, one in (self.problems or {}).items() if one is not None}
        if self.problem is not None:
            found = {"": self.problem}
        if not found:
            return Kept(version, State.DONE)
        at_fault = all(problem.is_of_the_file for problem in found.values())
        reasons = [f"{name}: {one.reason}" if name else one.reason for name, one in found.items()]
        return Kept(version, State.FAILED if at_fault else State.RETRY, "; ".join(reasons))


def record_of(version: FileVersion, request: str, outcome: Mapping[str, Any]) -> dict[str, Any]:
    """Put together what a line holds."""
    return {
        "path": version.path,
        "size_bytes": version.size_bytes,
        "modified_at": version.modified_at,
        "request": request,
        **outcome,
    }


def local_problem(title: str, detail: str = "") -> Outcome:
    """Make the outcome of a file that fails on this machine."""
    return {"problem": {"title": title, "detail": detail}}
