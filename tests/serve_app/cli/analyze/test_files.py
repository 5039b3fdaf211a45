"""Which files are found in folders, which are photos or videos, and how versions are told apart."""

import os
from pathlib import Path

import pytest

from deployments.runtime.random_media import ImageGenerator, VideoGenerator
from serve_app.cli.analyze.files import (
    FileVersion,
    Found,
    _below,
    find,
    is_media,
    shown,
    text_of,
    version_of,
)
from serve_app.cli.analyze.plan import make_plan
from serve_app.cli.analyze.results import Kept, State
from tests.serve_app.cli.analyze.support import JPEG


def test_order_of_folders(tmp_path: Path) -> None:
    """Files come in the order of their names, folder by folder, each once."""
    for name in ("b/2.jpg", "b/1.jpg", "a/z.jpg", "c.jpg", "10.jpg", "9.jpg"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    named = [tmp_path / "b" / "2.jpg", tmp_path, tmp_path / "b" / ".." / "b"]
    found = find(named)
    assert [str(tmp_path / "b" / "2.jpg")] == found.named
    expected = ["10.jpg", "9.jpg", "c.jpg", "a/z.jpg", "b/1.jpg"]
    assert [str(tmp_path / name) for name in expected] == found.in_folders
    assert [] == found.unreadable


def test_hidden_files_and_links(tmp_path: Path) -> None:
    """Hidden files and linked folders are left out, unless they are named; links to files count."""
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "1.jpg").touch()
    (tmp_path / "here" / ".hidden").mkdir(parents=True)
    (tmp_path / "here" / ".hidden" / "2.jpg").touch()
    (tmp_path / "here" / ".3.jpg").touch()
    (tmp_path / "here" / "linked").symlink_to(tmp_path / "real")
    (tmp_path / "here" / "loop").symlink_to(tmp_path / "here")
    (tmp_path / "here" / "4.jpg").symlink_to(tmp_path / "real" / "1.jpg")
    here = str(tmp_path / "here")
    assert [f"{here}/4.jpg"] == find([tmp_path / "here"]).in_folders
    named = find(tmp_path / "here" / name for name in ("linked", ".hidden", ".3.jpg"))
    assert [f"{here}/linked/1.jpg", f"{here}/.hidden/2.jpg"] == named.in_folders
    assert [f"{here}/.3.jpg"] == named.named


def test_folder_that_vanishes(tmp_path: Path) -> None:
    """A folder that can't be looked into is told of as a failure."""
    found = Found()
    gone = str(tmp_path / "gone")
    assert [] == list(_below(gone, found.unreadable))
    assert [(gone, "No such file or directory")] == found.unreadable
    (failure,) = make_plan(found, {}, retry_failed=False).failures
    assert (gone, State.RETRY) == (failure.version.path, failure.state)
    assert "It can't be read: No such file or directory" == failure.reason


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("empty.jpg", b"", True),
        ("empty.txt", b"", False),
        ("empty", b"", False),
        ("damaged.heic", b"\0\1\2\3" * 9, True),
        ("damaged.MOV", b"\0\1\2\3" * 9, True),
        ("unknown", b"\0\1\2\3" * 9, False),
        ("photo", JPEG, True),
        ("photo.txt", JPEG, True),
        ("sound.mp4", b"\0\0\0\x18ftypM4A ", False),
        ("code.ts", b"export const a = 1;\n", False),
        ("page.jpg", b"<html>not found</html>", False),
        ("paper.pdf", b"%PDF-1.7", False),
    ],
)
def test_is_media(tmp_path: Path, name: str, content: bytes, *, expected: bool) -> None:
    """The content decides; where it says nothing the name does."""
    path = tmp_path / name
    path.write_bytes(content)
    assert expected == is_media(str(path))


def test_real_media(tmp_path: Path) -> None:
    """Whole photos and videos are found, whatever they are called."""
    photo, video = tmp_path / "photo", tmp_path / "video"
    photo.write_bytes(ImageGenerator(size=(16, 16), format="WEBP").media(0).data)
    video.write_bytes(VideoGenerator().media().data)
    assert is_media(str(photo))
    assert is_media(str(video))


def test_not_files(tmp_path: Path) -> None:
    """A pipe is never opened: among the others in a folder, a failure when it is named."""
    os.mkfifo(tmp_path / "pipe.jpg")
    in_folder = make_plan(find([tmp_path]), {}, retry_failed=False)
    assert (1, []) == (in_folder.others, in_folder.to_send)
    named = make_plan(find([tmp_path / "pipe.jpg"]), {}, retry_failed=False)
    assert ["It can't be read: it is not a file"] == [one.reason for one in named.failures]


def test_named_files_are_sent_whatever_they_are(tmp_path: Path) -> None:
    """The user knows better than a media type."""
    (tmp_path / "a.txt").write_bytes(b"text")
    assert 0 == len(make_plan(find([tmp_path]), {}, retry_failed=False).to_send)
    assert 1 == len(make_plan(find([tmp_path / "a.txt"]), {}, retry_failed=False).to_send)


@pytest.mark.parametrize(
    ("state", "retry_failed", "sent"),
    [
        (State.DONE, False, False),
        (State.DONE, True, False),
        (State.FAILED, False, False),
        (State.FAILED, True, True),
        (State.RETRY, False, True),
    ],
)
def test_what_is_sent_again(
    tmp_path: Path, state: State, *, retry_failed: bool, sent: bool
) -> None:
    """It depends on how the same version of the file went; another version is always sent."""
    path = tmp_path / "a.jpg"
    path.write_bytes(JPEG)
    version = version_of(str(path), path.stat())
    found = find([path])
    same = {version.path: Kept(version, state)}
    assert sent == bool(make_plan(found, same, retry_failed=retry_failed).to_send)
    for other in (
        FileVersion(version.path, 4, version.modified_at),
        FileVersion(version.path, 3, "2000-01-01T00:00:00.000000+00:00"),
    ):
        changed = {version.path: Kept(other, state)}
        assert 1 == len(make_plan(found, changed, retry_failed=retry_failed).to_send)


@pytest.mark.parametrize(
    ("time_ns", "expected"),
    [
        (0, "1970-01-01T00:00:00.000000+00:00"),
        (1_234_567_890, "1970-01-01T00:00:01.234567+00:00"),
        (-1, "1969-12-31T23:59:59.999999+00:00"),
        (2**63 * 10**9, "9999-12-31T23:59:59.999999+00:00"),
        (-(2**63) * 10**9, "0001-01-01T00:00:00.000000+00:00"),
    ],
)
def test_times(time_ns: int, expected: str) -> None:
    """Times are exact to the microsecond, and those that no calendar has do no harm."""

    class Status:
        st_size = 1
        st_mtime_ns = time_ns

    assert FileVersion("/a", 1, expected) == version_of("/a", Status())  # pyright: ignore[reportArgumentType]  # no disk takes such times


@pytest.mark.parametrize(
    ("raw", "text", "on_screen"),
    [
        (b"", "", ""),
        (b"/a b", "/a b", "/a b"),
        ("/ä".encode(), "/ä", "/ä"),
        (b"/\xff", "/\\xff", "/\\xff"),
        (b"/\x1b[2J", "/\x1b[2J", "'/\\x1b[2J'"),
    ],
)
def test_text(raw: bytes, text: str, on_screen: str) -> None:
    """Paths are valid text, and on a screen no command to the terminal."""
    assert text == text_of(os.fsdecode(raw))
    assert on_screen == shown(text)
