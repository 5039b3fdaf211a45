"""The validator: silent on a right stream, and clear on each way to break one."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from deployments.hls_streaming import validate
from tests.deployments.hls_streaming.studio import Studio

SMALL, LARGE = "96p_200k", "120p_300k"


def edit(name: str, old: str, new: str) -> Callable[[Path], None]:
    """Return what replaces some text in a playlist, which must be there."""

    def change(folder: Path) -> None:
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new))

    return change


def cut(name: str, size_bytes: int) -> Callable[[Path], None]:
    """Return what cuts a file off."""

    def change(folder: Path) -> None:
        (folder / name).write_bytes((folder / name).read_bytes()[:size_bytes])

    return change


def remove(name: str) -> Callable[[Path], None]:
    """Return what removes a file."""
    return lambda folder: (folder / name).unlink()


def put(source: str, target: str) -> Callable[[Path], None]:
    """Return what puts one file in the place of another."""

    def change(folder: Path) -> None:
        shutil.copy(folder / source, folder / target)

    return change


def lower(attribute: str) -> Callable[[Path], None]:
    """Return what understates a bit rate of all variants."""

    def change(folder: Path) -> None:
        master = folder / "adaptive.m3u8"
        master.write_text(master.read_text().replace(f"{attribute}=", f"{attribute}=1,WAS="))

    return change


def without_last_segment(folder: Path) -> None:
    """Leave a variant's last segment out of its playlist."""
    path = folder / f"{SMALL}.m3u8"
    *before, _, _, end = path.read_text().splitlines()
    path.write_text("\n".join([*before, end]))


@pytest.fixture
def stream(good: Callable[[float], Path], tmp_path: Path) -> Path:
    """A copy of a right stream with segments of one second."""
    return Path(shutil.copytree(good(1.0), tmp_path / "stream"))


def test_right_stream(stream: Path) -> None:
    """Nothing is wrong with what the capability makes."""
    assert [] == validate(stream)


@pytest.mark.parametrize(
    ("break_it", "problem"),
    [
        (remove("adaptive.m3u8"), "adaptive.m3u8: .*No such file"),
        (cut("adaptive.m3u8", 0), "adaptive.m3u8: it does not begin with #EXTM3U"),
        (remove(f"{SMALL}.m3u8"), f"{SMALL}.m3u8: .*No such file"),
        (cut(f"{SMALL}.m3u8", 20), f"{SMALL}.m3u8: it has no EXT-X-TARGETDURATION"),
        (edit(f"{SMALL}.m3u8", "#EXT-X-ENDLIST", ""), "it has no EXT-X-ENDLIST"),
        (remove(f"{SMALL}_init.mp4"), f"{SMALL}_init.mp4 is missing or empty"),
        (remove(f"{SMALL}_00001.m4s"), f"{SMALL}_00001.m4s is missing or empty"),
        (cut(f"{SMALL}_00001.m4s", 0), f"{SMALL}_00001.m4s is missing or empty"),
        (cut(f"{SMALL}_00001.m4s", 40), f"{SMALL}_00001.m4s .*(no picture|can't be read)"),
        (cut(f"{SMALL}_init.mp4", 40), "can't be read"),
        (put(f"{SMALL}_00002.m4s", f"{SMALL}_00001.m4s"), "begins at .*the one before ends at"),
        (put(f"{LARGE}_init.mp4", f"{SMALL}_init.mp4"), "RESOLUTION=128x96, it is 160x120"),
        (edit(f"{SMALL}.m3u8", "TARGETDURATION:1", "TARGETDURATION:0"), "above the target"),
        (edit(f"{SMALL}.m3u8", "#EXTINF:1.000000", "#EXTINF:1.100000"), "lasts 1.000 s, not 1.1 s"),
        (lower("BANDWIDTH"), "BANDWIDTH=1, its peak is"),
        (lower("AVERAGE-BANDWIDTH"), "AVERAGE-BANDWIDTH=1, its average is"),
        (edit("adaptive.m3u8", "128x96", "128x98"), "RESOLUTION=128x98, it is 128x96"),
        (edit("adaptive.m3u8", "avc1.42", "avc1.64"), "CODECS=avc1.64.*, they are avc1.42"),
        (edit("adaptive.m3u8", ",mp4a.40.2", ""), "CODECS=.*, they are .*,mp4a.40.2"),
        (edit(f"{SMALL}.m3u8", f"{SMALL}_00001", f"../{SMALL}_00001"), "is no file name"),
        (
            without_last_segment,
            "segments begin or end elsewhere",
        ),
    ],
)
def test_broken_stream(stream: Path, break_it: Callable[[Path], None], problem: str) -> None:
    """Each way to break a stream is told, in words that say where."""
    break_it(stream)
    assert any(re.search(problem, text) for text in validate(stream))


def test_boundaries_that_differ(good: Callable[[float], Path], stream: Path) -> None:
    """A variant whose segments begin elsewhere is told: a player could not switch to it."""
    for path in good(2.0).glob(f"{SMALL}*"):
        shutil.copy(path, stream)
    assert f"{LARGE}.m3u8: segments begin or end elsewhere than in {SMALL}.m3u8" in validate(stream)


def test_segment_without_key_frame(stream: Path, studio: Studio) -> None:
    """A segment that begins with a picture that needs the one before is told."""
    muxer = "-t 3 -c:v libx264 -f hls -hls_time 1 -hls_flags split_by_time -hls_segment_type fmp4"
    names = ["-hls_fmp4_init_filename", f"{SMALL}_init.mp4"]
    names += ["-hls_segment_filename", f"{SMALL}_%05d.m4s"]
    studio.film(f"{SMALL}.m3u8", *muxer.split(), *names)
    for path in studio.root.glob(f"{SMALL}*"):
        shutil.copy(path, stream)
    problem = f"{SMALL}.m3u8: {SMALL}_00001.m4s does not begin with a key frame"
    assert problem in validate(stream)
