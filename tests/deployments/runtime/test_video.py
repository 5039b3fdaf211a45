"""Reading videos: every container, any time, upright and in the right shape and colours."""

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deployments.runtime.errors import CancelledRequestError
from deployments.runtime.random_media import VideoGenerator
from deployments.runtime.task import Task, running
from deployments.runtime.video import ACCEPTED_MIME_TYPES, VideoInfo
from tests.deployments.videos_support import FPS, H264, counter, ffmpeg, filmed, number_of, opened

FINE = ("-q:v", "2", "-g", "25")
ENCODINGS: dict[str, tuple[str, ...]] = {
    "h264.mp4": H264,
    "one_key_frame.mp4": (*H264, "-g", "1000"),
    "moov_first.mp4": (*H264, "-movflags", "+faststart"),
    "fragmented.mp4": (*H264, "-movflags", "frag_keyframe+empty_moov"),
    "hevc.mp4": (
        "-c:v",
        "libx265",
        "-preset",
        "ultrafast",
        "-x265-params",
        "log-level=0:keyint=25",
    ),
    "old.mov": ("-c:v", "mjpeg", "-pix_fmt", "yuvj420p", "-q:v", "2"),
    "phone.3gp": ("-c:v", "mpeg4", *FINE),
    "h264.mkv": H264,
    "vp8.webm": ("-c:v", "libvpx", "-deadline", "realtime", "-g", "25"),
    "vp9.webm": ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-g", "25"),
    "no_duration.webm": ("-c:v", "libvpx", "-deadline", "realtime", "-g", "25", "-live", "1"),
    "mpeg4.avi": ("-c:v", "mpeg4", "-bf", "2", *FINE),
    "h264.ts": H264,
    "one_key_frame.ts": (*H264, "-g", "1000"),
    "mpeg2.ts": ("-c:v", "mpeg2video", "-bf", "2", *FINE),
    "mpeg2.mpg": ("-c:v", "mpeg2video", "-bf", "2", *FINE),
    "flash.flv": ("-c:v", "flv", *FINE),
    "windows.wmv": ("-c:v", "wmv2", *FINE),
    "theora.ogv": ("-c:v", "libtheora", "-q:v", "8", "-g", "25"),
    "starts_at_7.mkv": (*H264, "-output_ts_offset", "7"),
    "starts_at_7.ts": (*H264, "-output_ts_offset", "7"),
}
# AVI numbers frames by when they are decoded. Of small frames in an MPEG program stream several
# share one time, and FFmpeg works the others out.
INEXACT_FRAMES = {"mpeg4.avi": 1, "mpeg2.mpg": 1}


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Counting videos by their name in the table, made once."""
    folder = tmp_path_factory.mktemp("videos")

    def make(name: str) -> Path:
        path = folder / name
        return path if path.exists() else counter(path, *ENCODINGS[name])

    return make


@pytest.mark.parametrize("name", ENCODINGS)
def test_frame_at_any_time(name: str, video: Callable[[str], Path]) -> None:
    """Whatever the container does to times, a frame is found by when it is shown."""
    film = opened(video(name))
    for time_s in (0.0, 0.02, 0.04, 0.5, 0.99, 1.0, 1.7, 2.5, 3.33, 3.9, 3.96, 3.98):
        expected = pytest.approx(int(time_s * FPS + 0.02), abs=INEXACT_FRAMES.get(name, 0))
        assert expected == number_of(film.frame_at(time_s)), time_s


@pytest.mark.parametrize("name", ENCODINGS)
def test_key_frames(name: str, video: Callable[[str], Path]) -> None:
    """Key frames come in order, and each is the frame of its time."""
    film = opened(video(name))
    found = list(film.key_frames())
    times = [time_s for time_s, _ in found]
    assert sorted(times) == times
    assert times[0] == pytest.approx(0, abs=0.05)
    numbers = pytest.approx(
        [time_s * FPS for time_s in times], abs=0.1 + INEXACT_FRAMES.get(name, 0)
    )
    assert numbers == [number_of(picture) for _, picture in found]
    assert ("one_key" in name) == (len(found) == 1)


@pytest.mark.parametrize("name", ENCODINGS)
def test_info(name: str, video: Callable[[str], Path]) -> None:
    """A video says how long and how large it is, whatever it is packed in."""
    info = opened(video(name)).info
    live = name == "no_duration.webm"
    length_s = 11.0 if name == "starts_at_7.mkv" else 4.0  # where its clock ends, as it is written
    assert info.duration_s == pytest.approx(0.0 if live else length_s, abs=0.1)
    assert (64, 48, 0, FPS) == (info.width, info.height, info.rotation_degrees, info.fps)
    assert live == (info.bit_rate == 0)
    assert info.audio_codec is None


def test_info_is_complete(tmp_path: Path) -> None:
    """All that a video says of itself is there, codecs by the names that FFmpeg gives them."""
    path = tmp_path / "video"
    VideoGenerator(duration_s=1.0, with_audio=True, rotation_degrees=90).write(path)
    info = opened(path).info
    rate = pytest.approx(path.stat().st_size * 8, rel=0.1)
    assert (
        VideoInfo(info.duration_s, 240, 320, 90, 25.0, "h264", "aac", info.bit_rate, "mov") == info
    )
    assert rate == info.bit_rate
    assert pytest.approx(1.0, abs=0.1) == info.duration_s


@pytest.mark.parametrize(
    ("name", "codec"), [("vp8.webm", "vp8"), ("vp9.webm", "vp9"), ("hevc.mp4", "hevc")]
)
def test_codec_names(name: str, codec: str, video: Callable[[str], Path]) -> None:
    """A codec is named, not the program that decodes it."""
    assert codec == opened(video(name)).info.video_codec


def test_accepts_what_it_says(video: Callable[[str], Path]) -> None:
    """The videos of these tests are of all accepted media types."""
    from deployments.runtime.media_type import detect  # noqa: PLC0415 - of this test only

    seen = {detect(video(name)).mime for name in ENCODINGS}
    assert {"video/3gpp2", "video/quicktime"} >= ACCEPTED_MIME_TYPES - seen


def test_variable_frame_rate(tmp_path: Path, video: Callable[[str], Path]) -> None:
    """A frame that stays long is the one shown all the while."""
    path = tmp_path / "slow.mp4"
    # Every tenth frame of the first two seconds, then all.
    chosen = "select='if(lt(n,50),not(mod(n,10)),1)'"
    ffmpeg("-i", video("h264.mp4"), "-vf", chosen, "-fps_mode", "vfr", *H264, path)
    film = opened(path)
    shown = {0.0: 0, 0.39: 0, 0.41: 10, 1.5: 30, 1.99: 40, 2.0: 50, 2.05: 51}
    assert shown == {time_s: number_of(film.frame_at(time_s)) for time_s in shown}


def test_last_frame_stays(tmp_path: Path, video: Callable[[str], Path]) -> None:
    """Where the sound goes on, the last frame is shown."""
    path = tmp_path / "sound.mp4"
    tone = ("-f", "lavfi", "-i", "sine=duration=9")
    ffmpeg("-i", video("h264.mp4"), *tone, "-c:v", "copy", "-c:a", "aac", path)
    film = opened(path)
    assert pytest.approx(9.0, abs=0.1) == film.info.duration_s
    assert 99 == number_of(film.frame_at(8.5))


def test_picture_begins_later_than_sound(tmp_path: Path, video: Callable[[str], Path]) -> None:
    """Before its first frame, a video shows that one."""
    path = tmp_path / "late.mkv"
    late = ("-itsoffset", "2", "-i", video("h264.mp4"))
    ffmpeg(*late, "-f", "lavfi", "-i", "sine=duration=6", "-c:v", "copy", "-c:a", "aac", path)
    film = opened(path)
    assert [0, 0, 25] == [number_of(film.frame_at(time_s)) for time_s in (0.0, 1.5, 3.0)]


def test_starts_between_key_frames(tmp_path: Path, video: Callable[[str], Path]) -> None:
    """What precedes the first key frame can't be shown; from there on, all can."""
    path = tmp_path / "tuned_in.ts"
    data = video("h264.ts").read_bytes()
    packet_bytes = 188
    path.write_bytes(
        data[: 3 * packet_bytes] + data[len(data) // 3 // packet_bytes * packet_bytes :]
    )
    film = opened(path)
    numbers = [number_of(film.frame_at(time_s)) for time_s in (0.0, film.info.duration_s - 0.04)]
    assert (0, 99) == (numbers[0] % 25, numbers[1])


@pytest.mark.parametrize(
    "display",
    [
        (),
        ("-display_rotation", "90"),
        ("-display_rotation", "180"),
        ("-display_rotation", "270"),
        ("-display_hflip",),
        ("-display_vflip",),
        ("-display_rotation", "90", "-display_hflip"),
        ("-display_rotation", "270", "-display_hflip"),
    ],
    ids=" ".join,
)
def test_upright(display: tuple[str, ...], tmp_path: Path) -> None:
    """A turned or mirrored video looks as FFmpeg itself shows it."""
    plain, path, seen = tmp_path / "plain.mp4", tmp_path / "turned.mp4", tmp_path / "seen.png"
    filmed(plain, "testsrc=size=64x48:duration=0.2")
    ffmpeg(*display, "-i", plain, "-c", "copy", path)
    ffmpeg("-i", path, "-frames:v", "1", seen)
    film = opened(path)
    expected = Image.open(seen)
    result = film.frame_at(0.0)
    assert expected.size == result.size == (film.info.width, film.info.height)
    difference = np.asarray(expected, np.int16) - np.asarray(result, np.int16)
    assert np.abs(difference).mean() < 3
    turned = "-display_rotation" in display and film.info.rotation_degrees in (90, 180, 270)
    assert ("-display_rotation" in display) == turned


@pytest.mark.parametrize(
    ("aspect", "size"), [("1", (64, 48)), ("16/15", (68, 48)), ("8/9", (57, 48)), ("2", (128, 48))]
)
def test_pixels_that_are_no_squares(aspect: str, size: tuple[int, int], tmp_path: Path) -> None:
    """A video gets the width that players give it."""
    path = filmed(tmp_path / "a.mp4", f"testsrc=size=64x48:duration=0.2,setsar={aspect}")
    film = opened(path)
    assert size == (film.info.width, film.info.height) == film.frame_at(0.0).size
    assert size == next(film.key_frames())[1].size


@pytest.mark.parametrize("height", [576, 720])
@pytest.mark.parametrize("described", [True, False])
def test_colours(height: int, described: bool, tmp_path: Path) -> None:  # noqa: FBT001 - a case
    """Colours are those of the source, also where the file does not describe them."""
    matrix = "bt709" if height == 720 else "smpte170m"
    source = f"color=0x20A040:size=64x{height}:duration=0.1,scale=out_color_matrix={matrix}"
    if not described:
        source += ",format=yuv420p,setparams=colorspace=unknown"
    path = filmed(tmp_path / "green.mp4", source, "-c:v", "libx264", "-pix_fmt", "yuv420p")
    assert (0x20, 0xA0, 0x40) == pytest.approx(opened(path).frame_at(0.0).getpixel((9, 9)), abs=6)


@pytest.mark.parametrize("curve", ["arib-std-b67", "smpte2084"])
def test_high_dynamic_range(curve: str, tmp_path: Path) -> None:
    """Colours of high dynamic range come out as vivid as they were filmed, not pale."""
    red_in_2020 = {"arib-std-b67": "0x882E19", "smpte2084": "0x75422D"}[curve]
    params = f"log-level=0:colorprim=bt2020:transfer={curve}:colormatrix=bt2020nc"
    path = filmed(
        tmp_path / "hdr.mp4",
        f"color={red_in_2020}:size=64x48:duration=0.1,format=gbrp,"
        f"scale=out_color_matrix=bt2020:out_range=tv,format=yuv420p10le",
        *("-c:v", "libx265", "-x265-params", params),
    )
    red, green, blue = np.asarray(opened(path).frame_at(0.0)).mean(axis=(0, 1))
    assert red > 150
    assert max(green, blue) < 70


def test_size_may_change(tmp_path: Path) -> None:
    """Frames of another size further on come in their own size."""
    for index, size in enumerate(("64x48", "96x64")):
        source = f"testsrc=size={size}:duration=1"
        offset = ("-output_ts_offset", str(index))
        filmed(tmp_path / f"{index}.ts", source, *H264, *offset)
    path = tmp_path / "both.ts"
    path.write_bytes((tmp_path / "0.ts").read_bytes() + (tmp_path / "1.ts").read_bytes())
    film = opened(path)
    assert ((64, 48), (96, 64)) == (film.frame_at(0.5).size, film.frame_at(1.5).size)


def test_opening_reads_little(tmp_path: Path, video: Callable[[str], Path]) -> None:
    """A video of two gigabytes is opened by reading a few megabytes of it."""
    path = tmp_path / "large.mp4"
    path.write_bytes(video("moov_first.mp4").read_bytes())
    os.truncate(path, 2 * 2**30)
    before = _bytes_read()
    assert 50 == number_of(opened(path).frame_at(2.0))
    assert _bytes_read() - before < 20e6


def test_one_thread(video: Callable[[str], Path]) -> None:
    """Decoding starts no threads, which would take all cores of a small machine."""
    before = _threads()
    for _ in opened(video("h264.mp4")).key_frames():
        assert before == _threads()


def test_threads_share_a_video(video: Callable[[str], Path]) -> None:
    """Frames of one video may be asked for by several threads at once."""
    film = opened(video("h264.mp4"))
    with ThreadPoolExecutor(4) as threads:
        numbers = list(threads.map(lambda i: number_of(film.frame_at(i / FPS)), range(0, 100, 9)))
    assert list(range(0, 100, 9)) == numbers


def test_cancelled(video: Callable[[str], Path]) -> None:
    """Whoever no longer waits is not worked for."""
    film = opened(video("h264.mp4"))
    task = Task()
    task.cancel()
    with running(task):
        for work in (lambda: film.frame_at(1.0), lambda: next(film.key_frames())):
            with pytest.raises(CancelledRequestError):
                work()


def _bytes_read() -> int:
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(fields["rchar"])


def _threads() -> int:
    assert threading.active_count() >= 1
    return len(os.listdir("/proc/self/task"))  # noqa: PTH208 - names are enough
