"""Scaling, colours and the file of a thumbnail."""

import io

import numpy as np
import pytest
from PIL import Image, ImageCms

from deployments.media_thumbnail.algo.geometry import Placement, place
from deployments.media_thumbnail.algo.render import DEFAULT_QUALITY, encode, scale, to_srgb
from deployments.media_thumbnail.schema import Format
from deployments.runtime.random_media import ImageGenerator

FORMATS: tuple[Format, ...] = ("jpeg", "webp", "avif")


def profile(swap: tuple[int, int, int]) -> bytes:
    """Make a matrix profile whose primaries are those of sRGB in another order."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    tags = [b"rXYZ", b"gXYZ", b"bXYZ"]
    entries = [data.index(tag, 128) for tag in tags]
    places = [bytes(data[entry + 4 : entry + 12]) for entry in entries]
    for entry, source in zip(entries, swap, strict=True):
        data[entry + 4 : entry + 12] = places[source]
    return bytes(data)


def test_scale_one_pixel() -> None:
    """The smallest picture stays what it is, and the result is another image."""
    image = Image.new("RGB", (1, 1), (1, 2, 3))
    result = scale(image, (1, 1), place((1, 1), None, None, "contain"))
    assert ((1, 1), (1, 2, 3)) == (result.size, result.getpixel((0, 0)))
    assert result is not image


def test_scale_from_a_reduced_image() -> None:
    """The cut-out is measured in the original, at whatever scale that was decoded."""
    image = Image.new("RGB", (100, 50), (255, 0, 0))
    image.paste((0, 255, 0), (50, 0, 100, 50))
    result = scale(image, (800, 400), Placement((400, 0, 800, 400), (20, 20)))
    assert (20, 20) == result.size
    assert (0, 255, 0) == pytest.approx(np.asarray(result).mean(axis=(0, 1)), abs=2)


def test_scale_looks_like_lanczos() -> None:
    """The quick way to scale gives what the careful one gives."""
    image = ImageGenerator((2000, 1500)).image()
    result = np.asarray(scale(image, (2000, 1500), place((2000, 1500), 256, None, "contain")))
    careful = np.asarray(image.resize((256, 192), Image.Resampling.LANCZOS))
    deviation = np.sqrt(np.square(result.astype(float) - careful).mean())
    assert deviation < 2  # 42 dB


def test_scale_drops_metadata() -> None:
    """What the decoder noted beside the pixels does not reach the thumbnail."""
    image = Image.new("RGB", (9, 9))
    image.info = {"comment": b"private", "icc_profile": b"x", "exif": b"x"}
    result = scale(image, (9, 9), place((9, 9), None, None, "contain"))
    assert {} == result.info
    assert "comment" in image.info


def test_to_srgb() -> None:
    """Colours are shown as the profile means them."""
    image = Image.new("RGB", (2, 2), (200, 100, 50))
    assert image.getpixel((0, 0)) == to_srgb(image, None).getpixel((0, 0))
    same = to_srgb(image, profile((0, 1, 2)))
    assert (200, 100, 50) == pytest.approx(same.getpixel((0, 0)), abs=1)
    swapped = to_srgb(image, profile((1, 0, 2)))
    assert (100, 200, 50) == pytest.approx(swapped.getpixel((0, 0)), abs=2)
    assert (200, 100, 50) == image.getpixel((0, 0))


@pytest.mark.parametrize(
    "icc_profile",
    [
        b"",
        b"not a profile",
        profile((0, 1, 2))[:100],
        profile((0, 1, 2))[:-200],
        ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes(),
    ],
    ids=["empty", "text", "header", "cut off", "of Lab pixels"],
)
def test_to_srgb_of_a_bad_profile(icc_profile: bytes) -> None:
    """A profile that is broken or of other pixels costs nothing but itself."""
    image = Image.new("RGB", (2, 2), (200, 100, 50))
    assert (200, 100, 50) == to_srgb(image, icc_profile).getpixel((0, 0))


@pytest.mark.parametrize("image_format", FORMATS)
@pytest.mark.parametrize("size", [(1, 1), (3, 2), (97, 61)])
def test_encode(image_format: Format, size: tuple[int, int]) -> None:
    """Each format can be read again, shows the same, and carries nothing else."""
    image = Image.linear_gradient("L").resize(size).convert("RGB")
    read = Image.open(io.BytesIO(encode(image, image_format, 95, 1)))
    assert (image_format.upper(), size) == (read.format, read.size)
    difference = np.asarray(read.convert("RGB"), float) - np.asarray(image)
    assert np.abs(difference).mean() < 8
    assert {} == dict(read.getexif())
    assert not {"icc_profile", "exif", "xmp", "comment"} & set(read.info)


@pytest.mark.parametrize("image_format", FORMATS)
def test_quality(image_format: Format) -> None:
    """A higher quality is a larger file, from 1 to 100; the same twice gives the same."""
    image = ImageGenerator((96, 64)).image()
    sizes = [len(encode(image, image_format, quality, 1)) for quality in (1, 30, 70, 100)]
    assert sorted(set(sizes)) == sizes
    default = encode(image, image_format, DEFAULT_QUALITY[image_format], 1)
    assert default == encode(image, image_format, None, 2)
