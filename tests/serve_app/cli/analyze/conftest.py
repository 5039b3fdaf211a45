"""Fixtures of the `cl-serve analyze` tests: short waits, a service that runs, some photos."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from serve_app.cli.analyze import command
from tests.serve_app.cli.analyze.support import JPEG, QUICK, LocalService


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pause for milliseconds."""
    monkeypatch.setattr(command, "PATIENCE", QUICK)


@pytest.fixture(scope="module")
def _shared() -> Iterator[LocalService]:
    service = LocalService()
    service.start()
    yield service
    service.stop()


@pytest.fixture
def service(_shared: LocalService) -> LocalService:
    """Give a service that runs and has met nobody yet."""
    _shared.reset()
    return _shared


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Give a folder with three photos, of 4, 5 and 6 bytes."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in (1, 2, 3):
        (folder / f"{number}.jpg").write_bytes(JPEG + b"." * number)
    return folder
