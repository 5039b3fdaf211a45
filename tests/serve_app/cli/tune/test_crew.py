"""Replicas side by side: real models in processes of their own, and what becomes of failures."""

import numpy as np
import pytest

from deployments.runtime.errors import CorruptMediaError, StackError
from deployments.runtime.types import Media, Upload
from serve_app.cli.tune.crew import Crew
from serve_app.cli.tune.replica import Load
from serve_app.cli.tune.settings import NodeSetting, Setting
from tests.serve_app.cli.tune.conftest import GRAPH, WriteFile

NAMES = tuple(GRAPH)
NODE = NodeSetting(num_threads=1, max_batch_size=2, max_concurrent_batches=1)
SETTING = Setting(2, 1, {"face_detection": NODE, "face_embedding": NODE})
SHORT = Load(clients=3, warm_up_s=0.05, window_s=0.2)


def test_two_replicas(write_file: WriteFile, upload: Upload) -> None:
    """Both work at once, on a real face that one of them has found, and end with the crew.

    A single user keeps one of them busy.
    """
    with Crew(write_file(), upload) as crew:
        crew.load(NAMES, Setting(1, 1, {}))
        known, cost_ms = crew.results()
        (face,) = known["face_embedding"].faces
        assert 1 == pytest.approx(np.linalg.norm(face.embedding), abs=1e-3)
        assert set(NAMES) == set(cost_ms)
        crew.load(("face_embedding",), SETTING)
        crew.tune(SETTING.with_batch("face_embedding", 1))
        figures = crew.run(2, ("face_embedding",), known, SHORT)
        alone = crew.run(2, ("face_embedding",), known, Load(1, 0.0, 0.1))
        processes = [member._process for member in crew._members]
        assert [True, True] == [process.is_alive() for process in processes]
    assert figures.memory_mb > 100
    assert alone.per_s == pytest.approx(1000 / alone.p50_ms, rel=0.9)
    assert figures.per_s > 0
    assert figures.p50_ms <= figures.p95_ms
    assert [0, 0] == [process.exitcode for process in processes]


def test_a_photo_that_can_not_be_read(write_file: WriteFile) -> None:
    """A failed request ends the measurement with the node's own error."""
    upload = Upload(Media(b"\xff\xd8\xff\xe0 not a photo", "broken.jpg"))
    with Crew(write_file(), upload) as crew:
        crew.load(("face_detection",), Setting(1, 1, {}))
        with pytest.raises(CorruptMediaError):
            crew.run(1, ("face_detection",), {}, SHORT)


def test_unexpected_failure(write_file: WriteFile, upload: Upload) -> None:
    """What nobody foresaw comes back with its traceback."""
    with Crew(write_file(), upload) as crew:
        crew.load(("face_embedding",), Setting(1, 1, {}))
        with pytest.raises(StackError, match="KeyError: 'face_alignment'"):
            crew.run(1, ("face_embedding",), {}, SHORT)


def test_killed_process(write_file: WriteFile, upload: Upload) -> None:
    """A process that the system kills is reported with the most frequent cause."""
    with Crew(write_file(), upload) as crew:
        crew.load(("face_detection",), Setting(1, 1, {}))
        (member,) = crew._members
        member._process.kill()
        member._process.join()
        with pytest.raises(StackError, match=r"exit code -9; .*memory"):
            crew.results()
