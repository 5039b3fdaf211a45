"""How long steps take, on a clock of the test's own."""

import pytest

from serve_app.stack import steps as module
from serve_app.stack.steps import Steps


def test_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step lasts until the next begins, the last until one asks; all are passed on."""
    clock = iter([10.0, 12.5, 13.0])
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))
    shown: list[str] = []
    steps = Steps(shown.append)
    steps("Starting Ray")
    steps("Starting Serve")
    assert {"Starting Ray": 2.5, "Starting Serve": 0.5} == steps.taken_s()
    assert ["Starting Ray", "Starting Serve"] == shown


def test_nothing_begun() -> None:
    """Before the first step nothing has taken any time."""
    assert {} == Steps(print).taken_s()
