"""The capability with a store of its own, and videos of all kinds for it."""

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.deployments.hls_streaming.studio import Studio


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Studio]:
    """The capability, with folders that this test alone uses."""
    with Studio(tmp_path) as studio:
        yield studio
    assert [] == [name for name in studio.leftovers() if "unfinished" in name or "ffmpeg" in name]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[float], Path]]:
    """A function that makes a right stream of 3 s with segments of a given length."""
    with Studio(tmp_path_factory.mktemp("good")) as studio:
        media = studio.film("film.mp4", "-t", "3", sound=True)

        @cache
        def make(segment_s: float) -> Path:
            result = studio.run(media, variants="120:300,96:200", segment_s=segment_s)
            return studio.folder(result)

        yield make
