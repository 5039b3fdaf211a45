"""The frame that stands for a video."""

import struct
from pathlib import Path

import numpy as np
import pytest

from deployments.media_thumbnail.algo.first_frame import MAX_KEY_FRAMES, first_frame
from tests.deployments.videos_support import H264, counter, filmed, number_of, opened


def shades(path: Path, luma: str, *, seconds: int = 4, key_every: int = 25) -> Path:
    """Write a video of one shade a frame, given as a function of the frame's number N."""
    grey = f"geq=lum='{luma}':cb=128:cr=128"
    source = f"nullsrc=size=64x48:rate=25:duration={seconds},{grey},format=yuv420p"
    return filmed(path, source, *H264, "-g", str(key_every))


def shade(path: Path) -> float:
    """Return the mean luma of the frame that stands for a video, 0 to 255."""
    return float(np.asarray(first_frame(opened(path)).convert("L")).mean())


def test_first_of_all(tmp_path: Path) -> None:
    """A video that begins with a picture shows that."""
    path = counter(tmp_path / "a.mp4")
    assert 0 == number_of(opened(path).frame_at(0))  # all stripes dark: black
    assert 25 == number_of(first_frame(opened(path)))


@pytest.mark.parametrize(
    ("luma", "seconds", "key_every", "expected"),
    [
        ("126", 1, 25, 128),
        # Black for a second: the second key frame.
        ("if(lt(N,20),16,126)", 4, 25, 128),
        # A dim room is not black.
        ("50", 1, 25, 40),
        # A fade in a clip with one key frame: its middle.
        ("16+1.1*N", 4, 1000, 64),
        # Black all along: the brightest, which is the last of them.
        ("16+0.2*N", 4, 25, 17),
        ("16", 1, 25, 0),
    ],
)
def test_not_black(luma: str, seconds: int, key_every: int, expected: int, tmp_path: Path) -> None:
    """The first key frame that is not black is taken, else the middle, else the brightest."""
    path = shades(tmp_path / "a.mp4", luma, seconds=seconds, key_every=key_every)
    assert expected == pytest.approx(shade(path), abs=6)


def test_few_white_letters(tmp_path: Path) -> None:
    """White letters on black are a picture."""
    title = (
        "color=black:size=64x48:rate=25:duration=1,drawbox=x=20:y=20:w=16:h=6:color=white:t=fill"
    )
    after = "nullsrc=size=64x48:rate=25:duration=1,geq=lum=200:cb=128:cr=128,format=yuv420p"
    path = filmed(tmp_path / "a.mp4", f"{title}[a];{after}[b];[a][b]concat", *H264)
    assert 20 > shade(path)


def test_bounded(tmp_path: Path) -> None:
    """Only so many key frames are looked at, and then the middle."""
    shown = f"if(lt(N,{MAX_KEY_FRAMES * 5}),16,if(lt(N,45),235,126))"
    path = shades(tmp_path / "a.mp4", shown, key_every=5)
    assert 128 == pytest.approx(shade(path), abs=6)


def test_no_key_frame_can_be_decoded(tmp_path: Path) -> None:
    """Where no key frame is left, the middle is taken."""
    path = tmp_path / "a.avi"
    rare = ("-c:v", "flv", "-q:v", "2", "-g", "600", "-sc_threshold", "1000000000")
    data = bytearray(counter(path, *rare).read_bytes())
    first = data.index(b"00dc", data.index(b"movi"))
    (size,) = struct.unpack_from("<I", data, first + 4)
    data[first + 8 : first + 8 + size] = b"\xff" * size
    path.write_bytes(data)
    film = opened(path)
    assert [] == list(film.key_frames())
    assert 50 == number_of(first_frame(film))
