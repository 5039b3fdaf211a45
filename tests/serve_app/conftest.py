"""Fixtures of the serving tests: the fake graph in its initial state."""

import pytest

from tests.serve_app.fake import Lengths, Slow


@pytest.fixture(autouse=True)
def _fresh_fake() -> None:
    """Reset what tests record and steer in the fake capability."""
    Lengths.batches = []
    Lengths.infer_s = 0.0
    Lengths.load_error = None
    Lengths.loads = 0
    for event in (Slow.started, Slow.go_on, Slow.cancelled):
        event.clear()
