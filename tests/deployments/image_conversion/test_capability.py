"""Image conversion as a whole: every format to every other, and animations."""

import numpy as np
import pytest
from PIL import Image

from deployments.image_conversion import ImageConversion, ImageConversionParams
from deployments.image_conversion.algo.targets import TARGETS
from deployments.runtime.asset import Asset
from deployments.runtime.capability import NodeSettings
from deployments.runtime.media_type import detect
from deployments.runtime.models import ModelStore
from deployments.runtime.picture import Picture
from deployments.runtime.types import Media
from tests.deployments.image_conversion.support import (
    FORMATS,
    Convert,
    animation,
    clear,
    encoded,
    moving,
    soft,
)

SOURCES = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "HEIF", "AVIF")
ANIMATED = {"GIF": "gif", "WEBP": "webp", "PNG": "png", "AVIF": "avif"}
LOSSLESS = ("png", "bmp", "tiff")


def rgb(data: bytes) -> np.ndarray:
    """Decode to (height, width, 3), int16 RGB."""
    return np.asarray(Picture(Media(data)).rgb()).astype(np.int16)


def shown(media: Media) -> list[tuple[np.ndarray, float]]:
    """Decode the frames of an animation: RGBA with clear parts black, and milliseconds."""
    picture = Picture(media)
    frames: list[tuple[np.ndarray, float]] = []
    for frame in picture.frames():
        pixels = np.asarray(picture.upright(frame).convert("RGBA")).astype(np.int16)
        pixels[pixels[..., 3] < 128] = 0
        frames.append((pixels, frame.info.get("duration", 0)))
    return frames


@pytest.mark.parametrize("target", FORMATS)
@pytest.mark.parametrize("source", SOURCES)
def test_every_pair(convert: Convert, source: str, target: str) -> None:
    """Each format that is read becomes each that is written, with the same picture in it."""
    data = encoded(soft(), source)
    result = convert(Media(data, f"sea.{source.lower()}"), format=target)
    wanted = TARGETS[target]
    assert wanted.media_type == result.media_type == detect(result.data).mime
    assert f"sea{wanted.extension}" == result.filename
    assert (96, 64, 1) == (result.width, result.height, result.frame_count)
    assert (96, 64) == Picture(Media(result.data)).size
    difference = np.abs(rgb(result.data) - rgb(data))
    assert difference.mean() <= (0 if target in LOSSLESS else 5)


@pytest.mark.parametrize("target", FORMATS)
@pytest.mark.parametrize("size", [(1, 1), (1, 70), (517, 2)])
def test_small_sizes(convert: Convert, target: str, size: tuple[int, int]) -> None:
    """Pictures of a few pixels, odd ones too, keep their size and colour."""
    data = encoded(Image.new("RGB", size, (90, 120, 150)), "PNG")
    result = convert(data, format=target)
    assert size == Picture(Media(result.data)).size
    assert (90, 120, 150) == pytest.approx(tuple(rgb(result.data)[0, 0]), abs=4)


@pytest.mark.parametrize("target", ["jpg", "webp", "avif", "heic"])
def test_quality(convert: Convert, target: str) -> None:
    """More quality is a larger file that is nearer to the original."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), "PNG")
    results = [convert(data, format=target, quality=quality).data for quality in (1, 50, 100)]
    assert sorted(map(len, results)) == [len(result) for result in results]
    errors = [float(np.abs(rgb(result) - noise).mean()) for result in results]
    assert sorted(errors, reverse=True) == errors
    assert errors[0] > errors[2]


def test_lossless(convert: Convert) -> None:
    """WebP loses nothing when asked to."""
    noise = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), "PNG")
    np.testing.assert_array_equal(noise, rgb(convert(data, format="webp", lossless=True).data))


@pytest.mark.parametrize("target", ["png", "webp", "gif", "tiff", "avif", "heic"])
@pytest.mark.parametrize("source", ["PNG", "WEBP", "GIF", "TIFF", "AVIF", "HEIF"])
def test_transparency_is_kept(convert: Convert, source: str, target: str) -> None:
    """Where both formats have transparency, clear parts stay clear."""
    result = convert(encoded(clear(), source), format=target, background="lime")
    with Picture(Media(result.data)).stored() as stored:
        alpha = np.asarray(stored.convert("RGBA"))[..., 3]
    assert alpha[:, :40].max() <= 2
    assert alpha[:, 56:].min() >= 253


@pytest.mark.parametrize("target", ["jpg", "bmp"])
@pytest.mark.parametrize(
    ("background", "expected"), [("white", (255, 255, 255)), ("#102030", (16, 32, 48))]
)
def test_background(
    convert: Convert, target: str, background: str, expected: tuple[int, int, int]
) -> None:
    """Where the format has no transparency, clear parts show the background."""
    result = convert(encoded(clear(), "PNG"), format=target, background=background)
    pixels = rgb(result.data)
    assert expected == pytest.approx(tuple(pixels[32, 16]), abs=2)
    assert (0, 0, 255) == pytest.approx(tuple(pixels[32, 80]), abs=2)


@pytest.mark.parametrize("source", ["PNG", "TIFF"])
@pytest.mark.parametrize("target", FORMATS)
def test_16_bits(convert: Convert, source: str, target: str) -> None:
    """16 bits of grey are kept where the format has them, else scaled, never cut off."""
    samples = np.full((16, 16), 40_000, np.uint16)
    result = convert(encoded(Image.fromarray(samples), source), format=target)
    with Picture(Media(result.data)).stored() as stored:
        deep = stored.mode == "I;16"
        if deep:
            assert 40_000 == stored.getpixel((3, 3))
    assert (target in {"png", "tiff"}) == deep
    assert (156, 156, 156) == pytest.approx(tuple(rgb(result.data)[3, 3]), abs=3)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "CMYK"])
@pytest.mark.parametrize("target", FORMATS)
def test_modes(convert: Convert, mode: str, target: str) -> None:
    """Black and white, grey, palettes and print colours come through in every format."""
    image = Image.new("L", (32, 32), 255).convert(mode)
    data = encoded(image, "TIFF" if mode == "CMYK" else "PNG")
    result = convert(data, format=target)
    assert (255, 255, 255) == pytest.approx(tuple(rgb(result.data)[9, 9]), abs=3)


@pytest.mark.parametrize("target", FORMATS)
def test_pages(convert: Convert, target: str) -> None:
    """Of a document of several pages the first one is written."""
    pages = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue", "lime")]
    data = encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    result = convert(data, format=target)
    assert 1 == result.frame_count == Picture(Media(result.data)).frame_count
    assert (255, 0, 0) == pytest.approx(tuple(rgb(result.data)[8, 8]), abs=6)


@pytest.mark.parametrize("transparent", [False, True], ids=["opaque", "clear"])
@pytest.mark.parametrize("target", ANIMATED.values())
@pytest.mark.parametrize("source", ANIMATED)
def test_animations(convert: Convert, *, source: str, target: str, transparent: bool) -> None:
    """Frames, their times and their transparency get from each animated format to each other."""
    durations_ms = (100, 50, 200, 80)
    media = animation(source, moving(4, transparent=transparent), durations_ms, loop=0)
    result = convert(media, format=target, lossless=target == "webp", quality=95)
    expected, actual = shown(media), shown(Media(result.data))
    assert 4 == result.frame_count == len(actual) == len(expected)
    assert list(durations_ms) == [duration for _, duration in actual]
    assert (48, 32) == (result.width, result.height)
    for (want, _), (got, _) in zip(expected, actual, strict=True):
        assert np.abs(want - got).mean() <= (12 if "avif" in {source.lower(), target} else 0.2)


@pytest.mark.parametrize("target", ["jpg", "bmp", "tiff", "heic"])
@pytest.mark.parametrize("source", ANIMATED)
def test_animation_to_still(convert: Convert, source: str, target: str) -> None:
    """A format without animations gets the first frame."""
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    result = convert(animation(source, frames, (100, 100)), format=target)
    assert 1 == result.frame_count
    assert (255, 0, 0) == pytest.approx(tuple(rgb(result.data)[8, 8]), abs=6)


@pytest.mark.parametrize(
    ("source", "loop", "target", "expected"),
    [
        ("GIF", None, "gif", None),
        ("GIF", 0, "gif", 0),
        ("GIF", 2, "gif", 2),
        ("GIF", None, "webp", 1),
        ("GIF", 0, "webp", 0),
        ("GIF", 2, "png", 3),
        ("WEBP", 1, "gif", None),
        ("WEBP", 4, "gif", 3),
        ("PNG", 4, "webp", 4),
        ("AVIF", None, "gif", 0),
    ],
)
def test_loops(
    convert: Convert, source: str, loop: int | None, target: str, expected: int | None
) -> None:
    """An animation plays as often as before, in the words of the new format."""
    options = {} if loop is None else {"loop": loop}
    media = animation(source, moving(2, transparent=False), (100, 100), **options)
    with Picture(Media(convert(media, format=target).data)).stored() as stored:
        assert expected == stored.info.get("loop")


def test_frames_that_look_the_same(convert: Convert) -> None:
    """Frames that are joined by the writer are counted once, and are shown as long as before."""
    frame = Image.new("RGB", (16, 16), "red")
    frames = [frame, frame, Image.new("RGB", (16, 16), "blue")]
    media = animation("AVIF", frames, (100, 100, 100))
    result = convert(media, format="gif")
    durations_ms = [duration for _, duration in shown(Media(result.data))]
    assert 3 == len(shown(media))
    assert (result.frame_count, 300) == (len(durations_ms), sum(durations_ms))


def test_parts_that_become_clear(convert: Convert) -> None:
    """A frame with clear parts after one without is not drawn over it, in a copy's copy neither."""
    first, second = moving(2, transparent=False)
    second.paste((0, 0, 0, 0), (0, 0, 8, 8))
    media = animation("PNG", [first, second], (100, 100))
    for target in ("gif", "webp", "png"):
        result = Media(convert(media, format=target, lossless=target == "webp").data)
        again = Media(convert(result, format="gif").data)
        for (one, _), (other, _) in (shown(result), shown(again)):
            assert (255, 0) == (one[4, 4, 3], other[4, 4, 3])


def test_png_for_readers_without_animation(convert: Convert) -> None:
    """The picture that a PNG shows where animations are unknown is no frame of it."""
    still, *frames = (Image.new("RGB", (16, 16), colour) for colour in ("red", "blue", "lime"))
    data = encoded(
        still, "PNG", save_all=True, append_images=frames, default_image=True, duration=100
    )
    result = convert(data, format="gif")
    assert 2 == result.frame_count
    assert (0, 0, 255, 255) == tuple(shown(Media(result.data))[0][0][8, 8])


def test_turned_animation(convert: Convert) -> None:
    """All frames are turned upright."""
    exif = Image.Exif()
    exif[274] = 6
    frames = moving(3, transparent=False)
    media = animation("WEBP", frames, (100, 100, 100), exif=exif.tobytes())
    result = convert(media, format="png")
    assert (32, 48, 3) == (result.width, result.height, result.frame_count)
    for frame, (pixels, _) in zip(frames, shown(Media(result.data)), strict=True):
        turned = frame.transpose(Image.Transpose.ROTATE_270)
        assert np.abs(np.asarray(turned).astype(np.int16) - pixels).max() <= 1


@pytest.mark.parametrize(
    ("filename", "expected"),
    [
        (None, "converted.jpg"),
        ("photo.png", "photo.jpg"),
        ("photo", "photo.jpg"),
        ("été 2024.tar.png", "été_2024.tar.jpg"),
        ("../../etc/passwd", "passwd.jpg"),
        ("C:\\pictures\\sea.PNG", "sea.jpg"),
        ("a\r\nSet-Cookie: x\0.png", "a_Set-Cookie_x_.jpg"),
        ('say "hi".png', "say_hi_.jpg"),
    ],
)
def test_filename(convert: Convert, filename: str | None, expected: str) -> None:
    """A result is named like the upload, without folders and without what could do harm."""
    result = convert(Media(encoded(soft(), "PNG"), filename), format="jpg")
    assert expected == result.filename


def test_large_heic(convert: Convert) -> None:
    """A large HEIC is written in tiles, and shows the same picture."""
    data = encoded(soft((4400, 3700)), "JPEG")
    result = convert(data, format="heic")
    assert (4400, 3700) == Picture(Media(result.data)).size
    difference = np.abs(rgb(result.data)[::50, ::50] - rgb(data)[::50, ::50])
    assert difference.mean() < 3


def test_batch_equals_singles(store: ModelStore, convert: Convert) -> None:
    """Several files at once give what each gives alone, twice the same."""
    node = ImageConversion(NodeSettings(store))
    files = [encoded(soft((40 + index, 30)), "PNG") for index in range(3)]
    batch = [((Asset(Media(data)),), ImageConversionParams(format="webp")) for data in files]
    expected = [convert(data, format="webp") for data in files]
    assert expected == node.run_batch(batch) == node.run_batch(batch)


@pytest.mark.parametrize("target", FORMATS)
def test_sample(store: ModelStore, convert: Convert, target: str) -> None:
    """The self-test's input can be converted to everything, and first to what it asks for."""
    node = ImageConversion(NodeSettings(store))
    (result,) = node.run_batch([(node.sample(), node.sample_params())])
    assert ("sample.png", 256, 256) == (result.filename, result.width, result.height)
    assert f"sample{TARGETS[target].extension}" == convert(*node.sample(), format=target).filename
