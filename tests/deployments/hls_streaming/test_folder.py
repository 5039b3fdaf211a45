"""A folder that a request names."""

import errno
import os
from pathlib import Path

import pytest

from deployments.hls_streaming.algo.folder import new_folder
from deployments.runtime.errors import ClServeError, InvalidParameterError, NodeUnavailableError


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, NodeUnavailableError),
        (errno.EDQUOT, NodeUnavailableError),
        (errno.EACCES, InvalidParameterError),
    ],
)
def test_failing_disk(tmp_path: Path, number: int, kind: type[ClServeError]) -> None:
    """A full disk is not the request's fault, and nothing is left on it."""

    def write() -> None:
        with new_folder(tmp_path / "film") as folder:
            (folder / "0.m4s").touch()
            raise OSError(number, os.strerror(number))

    with pytest.raises(kind, match="film: "):
        write()
    assert [] == list(tmp_path.iterdir())


def test_somebody_was_faster(tmp_path: Path) -> None:
    """What came to the place meanwhile stays."""
    place = tmp_path / "film"

    def write() -> None:
        with new_folder(place):
            place.mkdir()
            (place / "holiday.txt").touch()

    with pytest.raises(InvalidParameterError, match="not empty"):
        write()
    assert [place] == list(tmp_path.iterdir())
    assert (place / "holiday.txt").is_file()
