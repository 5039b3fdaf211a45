"""What can't be streamed: a clear error, no process and no folder left, and the next one works."""

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deployments.hls_streaming import HlsStreamingParams, validate
from deployments.runtime.asset import Asset
from deployments.runtime.errors import (
    CancelledRequestError,
    ClServeError,
    CorruptMediaError,
    DeadlineExceededError,
    EmptyInputError,
    ForbiddenPathError,
    InvalidParameterError,
    TooLargeError,
    ToolFailedError,
    ToolNotInstalledError,
    UnsupportedMediaError,
)
from deployments.runtime.ffmpeg import RunLimits
from deployments.runtime.random_media import ImageGenerator, VideoGenerator
from deployments.runtime.task import Task, running
from deployments.runtime.types import Media
from tests.deployments.hls_streaming.studio import Studio, running_ffmpegs

FILM = VideoGenerator(size=(64, 48), duration_s=3, with_audio=True)
Make = Callable[[Studio], Media]


def cut_off(studio: Studio) -> Media:
    """Make a film of which the last third is missing; what is where stands at its start."""
    media = studio.film("film.mp4", "-t", "6", "-movflags", "faststart", sound=True)
    return Media(media.data[: len(media.data) * 2 // 3], "film.mp4")


def scrambled(studio: Studio) -> Media:
    """Make a film of which only the first picture can be decoded."""
    media = studio.film("film.mp4", "-t", "6", "-g", "1")
    at = media.data.index(b"mdat") + 4
    keep = at + len(media.data[at:]) // 100
    end = media.data.index(b"moov") - 4
    return Media(media.data[:keep] + bytes(end - keep) + media.data[end:], "film.mp4")


def playlist(studio: Studio) -> Media:
    """Make a text that would have FFmpeg open another file."""
    return Media(f"#EXTM3U\n#EXTINF:1,\n{studio.root}/film.mp4\n".encode(), "film.mp4")


def unknown_codec(studio: Studio) -> Media:
    """Make a film of a codec that nobody knows."""
    media = studio.film("film.mp4", "-t", "1")
    return Media(media.data.replace(b"avc1", b"xxxx").replace(b"avcC", b"xxxx"), "film.mp4")


def no_frames(studio: Studio) -> Media:
    """Make a film that lasts no time."""
    return studio.film("film.mp4", "-t", "0", "-c:v", "libx264")


def sound_only(studio: Studio) -> Media:
    """Make a video file with nothing to see."""
    return studio.ffmpeg("film.mkv", "-f", "lavfi", "-i", "sine", "-t", "1")


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda _: Media(b"", "film.mp4"), EmptyInputError, "0 bytes"),
        (lambda _: Media(b"no film", "film.mp4"), UnsupportedMediaError, "text/plain"),
        (lambda _: Media(bytes(1000), "film.mp4"), UnsupportedMediaError, "looks like"),
        (lambda _: ImageGenerator(size=(64, 48)).media(), UnsupportedMediaError, "image/jpeg"),
        (playlist, UnsupportedMediaError, "looks like"),
        (sound_only, UnsupportedMediaError, "only sound"),
        (unknown_codec, UnsupportedMediaError, "codec"),
        (no_frames, UnsupportedMediaError, "has no video in it"),
        (lambda _: Media(FILM.encode()[:100], "film.mp4"), CorruptMediaError, "broken or cut off"),
        (cut_off, CorruptMediaError, "cut off or broken: it says that it lasts 6.0 s"),
        (scrambled, CorruptMediaError, "most of the frames are broken|cut off or broken"),
    ],
)
def test_bad_video(
    studio: Studio,
    make: Make,
    kind: type[ClServeError],
    message: str,
) -> None:
    """What is wrong is told, and the next film is streamed."""
    error = studio.failure(make(studio), variants="48:200")
    assert kind is type(error)
    with pytest.raises(kind, match=message):
        raise error
    assert [] == studio.leftovers()
    studio.checked(FILM.media(), variants="48:200")


def outside(studio: Studio) -> str:
    """A folder that nobody allowed."""
    return str(studio.root / "elsewhere")


def dots(studio: Studio) -> str:
    """A way out of the allowed folder."""
    return f"{studio.writable}/../elsewhere"


def link(studio: Studio) -> str:
    """A symbolic link out of the allowed folder."""
    (studio.writable / "link").symlink_to(studio.root)
    return f"{studio.writable}/link/elsewhere"


def itself(studio: Studio) -> str:
    """The allowed folder itself."""
    return str(studio.writable)


def relative(_: Studio) -> str:
    """A path from wherever the service was started."""
    return "elsewhere"


def taken(studio: Studio) -> str:
    """A folder with somebody's file in it."""
    (studio.writable / "taken").mkdir()
    (studio.writable / "taken" / "holiday.txt").touch()
    return str(studio.writable / "taken")


def file(studio: Studio) -> str:
    """A file."""
    (studio.writable / "file").touch()
    return str(studio.writable / "file")


def below_file(studio: Studio) -> str:
    """A folder below a file."""
    return file(studio) + "/folder"


def too_long(studio: Studio) -> str:
    """A name that no file system takes."""
    return str(studio.writable / ("x" * 250))


@pytest.mark.parametrize(
    ("place", "kind", "message"),
    [
        (lambda _: "", ForbiddenPathError, "not an absolute path"),
        (relative, ForbiddenPathError, "not an absolute path"),
        (outside, ForbiddenPathError, "writable_folders"),
        (dots, ForbiddenPathError, "writable_folders"),
        (link, ForbiddenPathError, "writable_folders"),
        (itself, ForbiddenPathError, "writable_folders"),
        (lambda studio: f"{studio.writable}/a\0b", ForbiddenPathError, "writable_folders"),
        (taken, InvalidParameterError, "is there and is no empty folder"),
        (file, InvalidParameterError, "is there and is no empty folder"),
        (below_file, InvalidParameterError, "can't write to .*Not a directory"),
        (too_long, InvalidParameterError, "can't write to .*name too long"),
    ],
)
def test_bad_output_folder(
    studio: Studio,
    place: Callable[[Studio], str],
    kind: type[ClServeError],
    message: str,
) -> None:
    """Only a new or an empty folder below an allowed one is written, and nothing is overwritten."""
    folder = place(studio)
    before = sorted(studio.root.rglob("*"))
    error = studio.failure(FILM.media(), variants="48:200", output_folder=folder)
    assert kind is type(error)
    with pytest.raises(kind, match=message):
        raise error
    assert before == sorted(path for path in studio.root.rglob("*"))


def test_output_folder_of_another_request(studio: Studio) -> None:
    """Two requests can't write to one folder at once, and the first is not disturbed."""
    place = studio.writable / "film"
    errors: list[ClServeError] = []

    def other(_: float) -> None:
        if not errors:
            errors.append(studio.failure(FILM.media(), variants="48:200", output_folder=str(place)))

    media = studio.film("film.mp4", "-t", "20")
    with running(Task(other)):
        studio.run(media, variants="96:200", output_folder=str(place))
    assert ["another request is writing to"] == [str(error)[15:44] for error in errors]
    assert [] == validate(place)


@pytest.mark.parametrize(
    ("limits", "kind"),
    [
        (RunLimits(time_s=0.0, max_bytes=10**9), DeadlineExceededError),
        (RunLimits(time_s=60.0, max_bytes=1000), TooLargeError),
    ],
)
@pytest.mark.parametrize("named", [True, False])
def test_limits(
    studio: Studio,
    limits: RunLimits,
    kind: type[ClServeError],
    *,
    named: bool,
) -> None:
    """What takes too long or too much is ended, and its folder goes."""
    studio.capability.limits = limits  # pyright: ignore[reportAttributeAccessIssue]
    params: dict[str, Any] = {"output_folder": str(studio.writable / "film")} if named else {}
    media = FILM.media()
    error = studio.failure(
        media,
        variants="48:200",
        include_original=named,
        **params,
    )
    assert kind is type(error)
    assert [] == studio.leftovers()


def test_limit_of_the_store(studio: Studio) -> None:
    """A stream that the store could not keep is not made."""
    studio.outputs.max_bytes = 1000
    assert TooLargeError is type(studio.failure(FILM.media(), variants="48:200"))
    studio.run(FILM.media(), variants="48:200", output_folder=str(studio.writable / "film"))


def slow(studio: Studio) -> Media:
    """Make a film that takes long, with the slowest preset."""
    studio.capability.preset = "placebo"  # pyright: ignore[reportAttributeAccessIssue]
    picture = "testsrc2=s=640x360:r=25"
    return studio.film("film.mp4", "-t", "15", "-preset", "ultrafast", picture=picture)


@pytest.mark.parametrize("named", [True, False])
def test_cancel(studio: Studio, *, named: bool) -> None:
    """When nobody waits any more, FFmpeg ends in the middle of its work."""
    media = slow(studio)
    params: dict[str, Any] = {"output_folder": str(studio.writable / "film")} if named else {}
    task = Task(lambda _: task.cancel())
    with running(task):
        error = studio.failure(media, variants="360:2000", **params)
    assert CancelledRequestError is type(error)
    assert [] == studio.leftovers()


def test_killed_under_load(studio: Studio) -> None:
    """Of two films at once, the one whose FFmpeg is killed fails, and the next one works."""
    media = slow(studio)
    errors: list[ClServeError] = []
    threads = [
        threading.Thread(
            target=lambda: errors.append(studio.failure(media, variants="360:2000,240:900")),
        )
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    while len(running_ffmpegs()) < 2:
        time.sleep(0.05)
    for process in running_ffmpegs():
        os.kill(process.pid, signal.SIGKILL)
    for thread in threads:
        thread.join()
    assert [ToolFailedError] * 2 == [type(error) for error in errors]
    assert "FFmpeg was ended by SIGKILL" in str(errors[0])
    assert [] == studio.leftovers()
    studio.capability.preset = "ultrafast"  # pyright: ignore[reportAttributeAccessIssue]
    studio.checked(FILM.media(), variants="48:200")


def test_wrong_stream_is_not_published(
    studio: Studio,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the validator finds fault with never gets to the store."""
    monkeypatch.setattr(
        "deployments.hls_streaming.capability.write_media",
        lambda _init, _segments: "#EXTM3U\n",
    )
    error = studio.failure(FILM.media(), variants="48:200")
    assert ToolFailedError is type(error)
    assert "FFmpeg wrote no right stream: 48p_200k.m3u8" in str(error)
    assert [] == studio.leftovers()


def test_nothing_written(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that ends well and leaves nothing is a failure."""
    monkeypatch.setattr(
        "deployments.hls_streaming.algo.command.encode",
        lambda source, _rungs, _how: ["-i", source.path, "-f", "null", "-"],
    )
    error = studio.failure(FILM.media(), variants="48:200")
    assert "FFmpeg wrote no right stream: 48p_200k: there are no segments" in str(error)


def test_closed_file(studio: Studio) -> None:
    """A video whose file is gone is told as such."""
    asset = Asset(FILM.media())
    video = asset.video
    asset.close()
    with pytest.raises(CorruptMediaError, match="broken or cut off"):
        studio.capability.run_batch([((video,), HlsStreamingParams())])
    assert [] == studio.leftovers()


def test_no_ffmpeg(studio: Studio, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without FFmpeg, or with one that can't encode H.264, the node does not start."""
    fake = tmp_path / "ffmpeg"
    fake.write_text("#!/bin/sh\necho 'Unknown encoder libx264' >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(ToolFailedError, match="Unknown encoder libx264"):
        studio.capability.load()
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("imageio_ffmpeg.get_ffmpeg_exe", _none)
    with pytest.raises(ToolNotInstalledError, match="apt install ffmpeg"):
        studio.capability.load()


def _none() -> str:
    raise RuntimeError("No ffmpeg exe could be found")
