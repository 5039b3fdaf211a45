"""Image conversion of what can't be converted: every bad input has its error."""

import contextlib
import struct
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from deployments.image_conversion import capability
from deployments.runtime.asset import Asset
from deployments.runtime.errors import (
    CancelledRequestError,
    ClServeError,
    CorruptMediaError,
    EmptyInputError,
    ForbiddenPathError,
    InvalidParameterError,
    TooLargeError,
    UnsupportedMediaError,
)
from deployments.runtime.folders import AllowedFolders
from deployments.runtime.picture import Picture
from deployments.runtime.random_media import ImageGenerator, VideoGenerator
from deployments.runtime.task import Task, running
from deployments.runtime.types import Media
from tests.deployments.image_conversion.support import (
    FORMATS,
    Convert,
    animation,
    encoded,
    moving,
    soft,
)


def test_empty() -> None:
    """No bytes are refused as such."""
    with pytest.raises(EmptyInputError, match=r"'sea\.png' is empty"):
        Asset(Media(b"", "sea.png"))


@pytest.mark.parametrize(
    ("data", "looks_like"),
    [
        (b"Dear diary, nothing happened.\n", "text/plain"),
        (b"%PDF-1.7\n", "application/pdf"),
        (b"II*\x00\x10\x00\x00\x00CR\x02\x00" + bytes(64), "image/x-canon-cr2"),
        (b"\x00\x01", "application/octet-stream"),
    ],
)
def test_other_content(convert: Convert, data: bytes, looks_like: str) -> None:
    """Anything but an image is refused with what it looks like."""
    with pytest.raises(UnsupportedMediaError, match=f"'sea.png' looks like {looks_like}"):
        convert(Media(data, "sea.png"), format="jpg")


def test_video(convert: Convert) -> None:
    """A video is refused."""
    with pytest.raises(UnsupportedMediaError, match="video/mp4; accepted are JPEG"):
        convert(VideoGenerator(size=(64, 48), duration_s=0.2).media(), format="gif")


@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
@pytest.mark.parametrize("source", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "HEIF", "AVIF"])
def test_cut_off(convert: Convert, source: str, share: float) -> None:
    """A file that ends early is an error, and the next one is converted."""
    data = ImageGenerator((160, 120), format=source).encode()
    with pytest.raises(CorruptMediaError, match="'cut'"):
        convert(Media(data[: max(32, int(len(data) * share))], "cut"), format="png")
    assert 160 == convert(data, format="png").width


@pytest.mark.parametrize("source", ["GIF", "WEBP", "PNG", "AVIF"])
def test_cut_off_animation(convert: Convert, source: str) -> None:
    """An animation that ends early is an error, or the frames that are whole; never a crash."""
    frames = [ImageGenerator((48, 32), seed=seed).image() for seed in range(4)]
    data = animation(source, frames, (100, 100, 100, 100)).data
    for share in (0.3, 0.6, 0.9):
        try:
            result = convert(Media(data[: int(len(data) * share)], "cut"), format="webp")
        except CorruptMediaError:
            continue
        assert 1 <= result.frame_count < 4


@pytest.mark.parametrize("source", ["GIF", "WEBP", "PNG", "AVIF"])
def test_flipped_bytes(convert: Convert, source: str) -> None:
    """Random damage gives a picture or an error of ours."""
    original = animation(source, moving(3, transparent=True), (100, 100, 100)).data
    random = np.random.default_rng(7)
    for _ in range(30):
        data = bytearray(original)
        for position in random.integers(4, len(data), 3):
            data[position] = int(random.integers(0, 256))
        with contextlib.suppress(ClServeError):
            result = convert(Asset(Media(bytes(data)), max_pixels=10**6), format="gif")
            assert Picture(Media(result.data)).rgb().size == (result.width, result.height)


def test_pixel_limit(convert: Convert) -> None:
    """A picture past the limit is refused before it is decoded."""
    with pytest.raises(TooLargeError, match="100x80 = 8000 pixels; the limit is 7999"):
        convert(Asset(ImageGenerator((100, 80)).media(), max_pixels=7999), format="png")


@pytest.mark.parametrize(
    ("target", "size", "message"),
    [
        ("webp", (16_384, 1), "a side of a WebP has 16383 at most"),
        ("jpg", (1, 65_501), "a side of a JPEG has 65500 at most"),
        ("gif", (65_536, 1), "a side of a GIF has 65535 at most"),
        ("avif", (32_769, 1), "a side of a AVIF has 32768 at most"),
        ("heic", (32_769, 1), "a side of a HEIC has 32768 at most"),
        ("avif", (7072, 7072), "= 50013184 pixels; the limit for AVIF is 50000000"),
        ("heic", (7072, 7072), "= 50013184 pixels; the limit for HEIC is 50000000"),
    ],
)
def test_limits_of_formats(
    convert: Convert, target: str, size: tuple[int, int], message: str
) -> None:
    """A picture that is too large for the format is refused with the format's limit."""
    data = encoded(Image.new("1", size), "PNG")
    with pytest.raises(TooLargeError, match=message):
        convert(data, format=target)


@pytest.mark.parametrize("target", ["webp", "jpg", "gif", "avif"])
def test_just_within_the_limits(convert: Convert, target: str) -> None:
    """The longest picture of a format is written."""
    side = {"webp": 16_383, "jpg": 65_500, "gif": 65_535, "avif": 32_768}[target]
    assert side == convert(encoded(Image.new("1", (side, 1)), "PNG"), format=target).width


def test_animation_bomb(convert: Convert, monkeypatch: pytest.MonkeyPatch) -> None:
    """An animation of too many frames, or pixels in all, is refused; its first frame is not."""
    media = animation("GIF", moving(4, transparent=False), (100,) * 4)
    for limit, most in (("MAX_FRAMES", 3), ("MAX_ANIMATION_PIXELS", 4 * 48 * 32 - 1)):
        with monkeypatch.context() as patch:
            patch.setattr(capability, limit, most)
            with pytest.raises(TooLargeError, match="has 4 frames of 48x32 pixels"):
                convert(media, format="webp")
            assert 1 == convert(media, format="jpg").frame_count
    assert 4 == convert(media, format="webp").frame_count


def test_frame_past_the_screen(convert: Convert) -> None:
    """A frame of a GIF that reaches past its screen is cut off there, as browsers do."""
    data = bytearray(animation("GIF", moving(2, transparent=False), (100, 100)).data)
    # The square moves 6 pixels, so the second frame holds 22 x 20 pixels at (0, 4).
    second = data.index(b"\x2c" + struct.pack("<4H", 0, 4, 22, 20))
    data[second + 1 : second + 3] = struct.pack("<H", 40)
    result = convert(bytes(data), format="webp")
    assert (48, 32, 2) == (result.width, result.height, result.frame_count)
    with pytest.raises(TooLargeError, match="the limit is 1600"):
        convert(Asset(Media(bytes(data)), max_pixels=1600), format="webp")


def test_what_a_writer_refuses(convert: Convert) -> None:
    """What an encoder says no to is told as such: here, a frame of 20 minutes."""
    media = animation("WEBP", moving(2, transparent=False), (1_200_000, 100))
    with pytest.raises(UnsupportedMediaError, match="can't be written as GIF"):
        convert(media, format="gif")


def test_no_heic_encoder(convert: Convert, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where HEIC can't be written, the error says why."""
    monkeypatch.setattr(pillow_heif, "libheif_info", lambda: {"HEIF": ""})
    with pytest.raises(InvalidParameterError, match="pillow_heif has no HEVC encoder"):
        convert(encoded(soft(), "PNG"), format="heic")


def test_cancelled(convert: Convert) -> None:
    """Nothing is converted when nobody waits."""
    with running(Task()) as task:
        task.cancel()
        with pytest.raises(CancelledRequestError):
            convert(encoded(soft(), "PNG"), format="jpg")


def test_path_outside(tmp_path: Path) -> None:
    """A file outside of the allowed folders is not read, through a link neither."""
    (tmp_path / "in").mkdir()
    (tmp_path / "sea.png").write_bytes(encoded(soft(), "PNG"))
    (tmp_path / "in" / "link.png").symlink_to(tmp_path / "sea.png")
    files = AllowedFolders(readable=(tmp_path / "in",))
    for path in ("sea.png", "in/../sea.png", "in/link.png"):
        with pytest.raises(ForbiddenPathError):
            Asset(Media(path=str(tmp_path / path)), files=files)


def test_path_inside(convert: Convert, tmp_path: Path) -> None:
    """A file in an allowed folder is converted, named after its path, and left as it is."""
    data = encoded(soft(), "PNG")
    (tmp_path / "sea.png").write_bytes(data)
    asset = Asset(Media(path=str(tmp_path / "sea.png")), files=AllowedFolders(readable=(tmp_path,)))
    assert "sea.jpg" == convert(asset, format="jpg").filename
    asset.close()
    assert data == (tmp_path / "sea.png").read_bytes()
    assert ["sea.png"] == [path.name for path in tmp_path.iterdir()]


@pytest.mark.parametrize("target", FORMATS)
def test_next_request_works(convert: Convert, target: str) -> None:
    """After a failure the next conversion is as if nothing had been."""
    with pytest.raises(CorruptMediaError):
        convert(b"\x89PNG\r\n\x1a\n" + bytes(40), format=target)
    assert 96 == convert(encoded(soft(), "PNG"), format=target).width
