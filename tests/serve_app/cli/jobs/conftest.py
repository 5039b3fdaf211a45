"""Fixtures of the `cl-serve jobs` tests: short waits, a service that runs."""

from collections.abc import Iterator

import pytest

from serve_app.cli.jobs import display, service
from tests.serve_app.cli.jobs.support import JobsService


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pause for milliseconds; give up after half a minute, which no test should reach."""
    monkeypatch.setattr(service, "PAUSE_S", 0.01)
    monkeypatch.setattr(service, "GIVE_UP_S", 30.0)
    monkeypatch.setattr(display, "LINE_EVERY_S", 0.0)


@pytest.fixture
def api() -> Iterator[JobsService]:
    """Give a service that runs."""
    running = JobsService()
    running.start()
    yield running
    running.stop()
