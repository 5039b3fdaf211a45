"""Videos that are not what they should be: every bad input has its error, and none a crash."""

import random
import struct
from collections.abc import Callable
from pathlib import Path

import av
import pytest

from deployments.runtime.errors import (
    ClServeError,
    CorruptMediaError,
    InvalidParameterError,
    TooLargeError,
    UnsupportedMediaError,
)
from deployments.runtime.video import _MAX_FRAMES
from tests.deployments.videos_support import H264, counter, ffmpeg, filmed, number_of, opened

SMALL: dict[str, tuple[str, ...]] = {
    "h264.mp4": (*H264, "-movflags", "+faststart"),
    "fragmented.mp4": (*H264, "-movflags", "frag_keyframe+empty_moov"),
    "hevc.mp4": ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=0"),
    "h264.mkv": H264,
    "vp8.webm": ("-c:v", "libvpx", "-deadline", "realtime", "-g", "25"),
    "vp9.webm": ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8"),
    "mpeg4.avi": ("-c:v", "mpeg4", "-g", "25"),
    "h264.ts": H264,
    "mpeg2.mpg": ("-c:v", "mpeg2video", "-g", "25"),
    "flash.flv": ("-c:v", "flv", "-g", "25"),
    "windows.wmv": ("-c:v", "wmv2", "-g", "25"),
    "theora.ogv": ("-c:v", "libtheora", "-g", "25"),
}


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Counting videos by their name in the table, made once."""
    folder = tmp_path_factory.mktemp("videos")

    def make(name: str) -> Path:
        path = folder / name
        return path if path.exists() else counter(path, *SMALL[name])

    return make


@pytest.mark.parametrize(
    ("content", "looks_like"),
    [
        (b"", "application/x-empty"),
        (b"Dear diary, nothing happened.\n", "text/plain"),
        (b"#EXTM3U\n#EXT-X-VERSION:3\n#EXTINF:9,\nfile:///etc/passwd\n", None),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", "text/plain"),
        (b"<?xml version='1.0'?><MPD><BaseURL>file:///etc/passwd</BaseURL></MPD>", None),
        (b"\xff\xd8\xff\xe0 a photo", "image/jpeg"),
        (bytes(range(256)), "application/octet-stream"),
    ],
)
def test_no_video(content: bytes, looks_like: str | None, tmp_path: Path) -> None:
    """What is no video is refused by its content, with what it looks like and what is accepted."""
    path = tmp_path / "holiday.mp4"
    path.write_bytes(content)
    with pytest.raises(
        UnsupportedMediaError, match=r"'holiday\.mp4' looks like .* video/mp4"
    ) as told:
        opened(path)
    assert looks_like is None or looks_like in str(told.value)


@pytest.mark.parametrize(
    ("begins", "mime"),
    [
        (b"\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isommp42", "video/mp4"),
        (b"\x1aE\xdf\xa3" + bytes(40), "video/x-matroska"),
        (b"RIFF\x40\x00\x00\x00AVI LIST", "video/x-msvideo"),
        (b"\x00\x00\x01\xba" + bytes(40), "video/mpeg"),
        (b"FLV\x01\x05\x00\x00\x00\x09", "video/x-flv"),
        ((b"G" + b"\xff" * 187) * 5, "video/mp2t"),
    ],
)
@pytest.mark.parametrize("rest", [b"", b"Dear diary, nothing happened.\n" * 99, bytes(9999)])
def test_only_the_beginning_of_a_video(
    begins: bytes, mime: str, rest: bytes, tmp_path: Path
) -> None:
    """A file that only begins like a video is broken, or has no video in it."""
    path = tmp_path / mime.replace("/", ".")
    path.write_bytes(begins + rest)
    with pytest.raises((CorruptMediaError, UnsupportedMediaError), match=r"broken|no video|frame"):
        opened(path)


def test_only_sound(tmp_path: Path) -> None:
    """A file with sound alone is refused as such, even with a cover picture."""
    sound, cover, both = tmp_path / "a.mp4", tmp_path / "a.jpg", tmp_path / "b.mp4"
    ffmpeg("-f", "lavfi", "-i", "sine=duration=1", "-c:a", "aac", sound)
    ffmpeg("-f", "lavfi", "-i", "testsrc=size=64x64", "-frames:v", "1", cover)
    attached = ("-map", "0", "-map", "1", "-c", "copy", "-disposition:v", "attached_pic")
    ffmpeg("-i", sound, "-i", cover, *attached, both)
    for path in (sound, both):
        with pytest.raises(UnsupportedMediaError, match="has no video in it, only sound"):
            opened(path)


def test_unknown_codec(tmp_path: Path, video: Callable[[str], Path]) -> None:
    """A codec that nobody knows is said to be one."""
    path = tmp_path / "future.mp4"
    path.write_bytes(video("h264.mp4").read_bytes().replace(b"avc1", b"zzzz"))
    with pytest.raises(UnsupportedMediaError, match=r"'future\.mp4' is of a codec"):
        opened(path)


def test_zero_length(tmp_path: Path) -> None:
    """A video with a header and not a frame is broken."""
    path = tmp_path / "nothing.mp4"
    ffmpeg("-f", "lavfi", "-i", "testsrc=size=64x48", "-t", "0", *H264, path)
    with pytest.raises((CorruptMediaError, UnsupportedMediaError)):
        opened(path)


def test_cut_off_before_the_index(tmp_path: Path) -> None:
    """An MP4 whose index was at its lost end can't be read."""
    whole = counter(tmp_path / "whole.mp4").read_bytes()
    path = tmp_path / "half.mp4"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CorruptMediaError, match=r"'half\.mp4' is broken or cut off"):
        opened(path)


@pytest.mark.parametrize(
    ("name", "before_pictures"),
    [
        ("h264.mp4", b"mdat"),
        ("h264.mkv", b"\x1f\x43\xb6\x75"),
        ("vp8.webm", b"\x1f\x43\xb6\x75"),
        ("mpeg4.avi", b"movi"),
    ],
)
def test_cut_off_in_the_pictures(
    name: str, before_pictures: bytes, tmp_path: Path, video: Callable[[str], Path]
) -> None:
    """What is left of a video is shown; later times are errors that say where it ends."""
    whole = video(name).read_bytes()
    begin = whole.index(before_pictures)
    path = tmp_path / name
    path.write_bytes(whole[: begin + (len(whole) - begin) * 45 // 100])
    film = opened(path)
    assert 0 == number_of(film.frame_at(0.0))
    assert 10 == pytest.approx(number_of(film.frame_at(0.4)), abs=1)
    with pytest.raises(
        (CorruptMediaError, InvalidParameterError), match=r"there is no frame at 3.9"
    ):
        film.frame_at(3.9)


@pytest.mark.parametrize("time_s", [4.2, 100.0, 1e9, 1e300])
@pytest.mark.parametrize("name", ["h264.mp4", "vp8.webm", "h264.ts", "windows.wmv"])
def test_beyond_the_end(name: str, time_s: float, video: Callable[[str], Path]) -> None:
    """A time after the end is an error that says how long the video is."""
    with pytest.raises(InvalidParameterError, match=r"is (4|3\.9)\S* s long; there is no frame at"):
        opened(video(name)).frame_at(time_s)


@pytest.mark.parametrize("time_s", [4.2, 100.0, 1e300])
def test_beyond_an_end_that_is_not_known(
    time_s: float, tmp_path: Path, video: Callable[[str], Path]
) -> None:
    """The length is found out where a recording does not say it."""
    path = tmp_path / "live.webm"
    ffmpeg("-i", video("vp8.webm"), "-c", "copy", "-live", "1", path)
    film = opened(path)
    assert 0 == film.info.duration_s
    with pytest.raises(InvalidParameterError, match=r"'live\.webm' is 4\.000 s long"):
        film.frame_at(time_s)


def test_no_key_frame_near(tmp_path: Path) -> None:
    """A time far from any key frame is refused rather than decoded for minutes."""
    seconds = _MAX_FRAMES / 25 + 4
    path = filmed(
        tmp_path / "screen.mp4",
        f"color=size=16x16:rate=25:duration={seconds}",
        *(*H264, "-g", "9999", "-bf", "0"),
    )
    film = opened(path)
    assert (16, 16) == film.frame_at(2.0).size
    with pytest.raises(InvalidParameterError, match="no key frame within 1500 frames before"):
        film.frame_at(seconds - 1)


def test_no_key_frame_at_all(tmp_path: Path, video: Callable[[str], Path]) -> None:
    """A stream of which not a frame can be decoded is broken, and is not searched for ever."""
    data = bytearray(video("h264.ts").read_bytes())
    for start in range(0, len(data), 188):
        # Keep the tables and each packet's header; what is in them becomes noise.
        if data[start + 1] & 0x1F == 1:
            data[start + 24 : start + 188] = random.Random(start).randbytes(164)  # noqa: S311 - noise, not a secret
    path = tmp_path / "noise.ts"
    path.write_bytes(data)
    with pytest.raises(ClServeError, match="noise"):
        opened(path).frame_at(3.0)


def test_large_frames(video: Callable[[str], Path]) -> None:
    """Frames of more pixels than allowed are refused with their size and the limit."""
    path = video("h264.mp4")
    assert (64, 48) == opened(path, max_pixels=64 * 48).frame_at(0.0).size
    with pytest.raises(TooLargeError, match="64x48 = 3072 pixels; the limit is 3071"):
        opened(path, max_pixels=64 * 48 - 1)


def test_small_file_of_large_frames(tmp_path: Path) -> None:
    """A small file that declares large frames is refused."""
    path = filmed(tmp_path / "large.mkv", "color=size=6000x4000:rate=1:duration=1", *H264)
    assert path.stat().st_size < 100_000
    with pytest.raises(TooLargeError, match="6000x4000 = 24000000 pixels"):
        opened(path)


def test_wide_pixels(tmp_path: Path) -> None:
    """Pixels that are twenty times wider than high count as what they become."""
    path = filmed(tmp_path / "a.mp4", "testsrc=size=64x48:duration=0.2,setsar=20", *H264)
    with pytest.raises(TooLargeError, match="1280x48 = 61440 pixels"):
        opened(path, max_pixels=60_000)


def test_grows_too_large(tmp_path: Path) -> None:
    """Frames that grow past the limit further on are not decoded; the last one stays."""
    for index, size in enumerate(("64x48", "960x640")):
        offset = ("-output_ts_offset", str(2 * index))
        filmed(tmp_path / f"{index}.ts", f"testsrc=size={size}:duration=2", *H264, *offset)
    path = tmp_path / "both.ts"
    path.write_bytes((tmp_path / "0.ts").read_bytes() + (tmp_path / "1.ts").read_bytes())
    assert (960, 640) == opened(path).frame_at(3.0).size
    assert (64, 48) == opened(path, max_pixels=64 * 48 * 2).frame_at(3.0).size


@pytest.mark.parametrize("name", SMALL)
def test_random_damage(name: str, video: Callable[[str], Path], tmp_path: Path) -> None:
    """Random damage gives a frame or an error of ours, and what comes after it works."""
    whole = video(name).read_bytes()
    path = tmp_path / name
    for seed in range(24):
        chance = random.Random(seed)  # noqa: S311 - damage, not a secret
        data = bytearray(whole[: chance.choice((len(whole), chance.randrange(1, len(whole))))])
        for _ in range(chance.choice((1, 10, 100))):
            data[chance.randrange(min(len(data), chance.choice((3000, len(data)))))] = (
                chance.choice((0, 0x7F, 0xFF, chance.randrange(256)))
            )
        path.write_bytes(data)
        try:
            film = opened(path)
            film.frame_at(chance.uniform(0, 4))
            list(film.key_frames())
        except ClServeError:
            continue
    path.write_bytes(whole)
    assert 50 == pytest.approx(number_of(opened(path).frame_at(2.0)), abs=1)


def test_stream_that_appears_late(tmp_path: Path, video: Callable[[str], Path]) -> None:
    """A stream that begins in the middle of a file does no harm to the first one."""
    path, sound = tmp_path / "late.ts", tmp_path / "sound.ts"
    tone = ("-f", "lavfi", "-i", "sine=duration=4", "-c:a", "mp2")
    ffmpeg("-i", video("h264.ts"), *tone, "-c:v", "copy", "-output_ts_offset", "4", sound)
    path.write_bytes(video("h264.ts").read_bytes() + sound.read_bytes())
    film = opened(path)
    assert 8 == len(list(film.key_frames()))
    assert 98 == number_of(film.frame_at(film.info.duration_s - 0.05))


def test_other_files_stay_closed(tmp_path: Path) -> None:
    """A QuickTime file that names another one as the place of its pictures does not open it."""
    secret = tmp_path / "secret.mp4"
    moov_last = counter(secret).read_bytes()
    path = tmp_path / "crafted.mp4"
    crafted = _refer_to(str(secret), moov_last)
    path.write_bytes(crafted)
    reckless = {"enable_drefs": "1", "use_absolute_path": "1"}
    with av.open(str(path), format="mov", options=reckless) as container:
        assert (64, 48) == (
            container.streams.video[0].width,
            next(container.decode(video=0)).height,
        )
    with pytest.raises(CorruptMediaError, match="not a single frame"):
        opened(path)


def test_says_nothing(
    tmp_path: Path, video: Callable[[str], Path], capfd: pytest.CaptureFixture[str]
) -> None:
    """FFmpeg's own complaints about broken files don't reach the service's log."""
    data = bytearray(video("h264.mp4").read_bytes())
    path = tmp_path / "broken.mp4"
    for start in range(len(data) * 3 // 4, len(data), 7):
        data[start] ^= 0xFF
    path.write_bytes(data)
    assert 4 > len(list(opened(path).key_frames()))
    capture = capfd.readouterr()
    assert ("", "") == (capture.out, capture.err)


def test_file_is_gone(tmp_path: Path, video: Callable[[str], Path]) -> None:
    """A file that vanished after it was opened is an error that names it."""
    path = tmp_path / "a.mp4"
    path.write_bytes(video("h264.mp4").read_bytes())
    film = opened(path)
    path.unlink()
    with pytest.raises(CorruptMediaError, match=r"'a\.mp4' is broken or cut off: No such file"):
        film.frame_at(1.0)


def _refer_to(target: str, data: bytes) -> bytes:
    """Blank the pictures of an MP4 and refer to another file for them, by a Macintosh alias."""
    reference = target.encode().replace(b"/", b":")
    reference += b"\0" * (len(reference) % 2)
    alias = bytes(10) + b"\0" + bytes(27 + 12) + b"\0" + bytes(63 + 16) + bytes(4) + bytes(16)
    alias += struct.pack(">HH", 2, len(reference)) + reference + b"\xff\xff\0\0"
    entry = struct.pack(">I4sI", 12 + len(alias), b"alis", 0) + alias
    own = struct.pack(">I4sI", 12, b"url ", 1)
    at = data.index(own)
    grown = bytearray(data)
    for kind in (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"):
        start = data.rindex(kind, 0, at) - 4
        (size,) = struct.unpack_from(">I", data, start)
        struct.pack_into(">I", grown, start, size + len(entry) - len(own))
    begin = data.index(b"mdat") + 4
    grown[begin : data.index(b"moov") - 4] = bytes(data.index(b"moov") - 4 - begin)
    return bytes(grown[:at]) + entry + bytes(grown[at + len(own) :])
