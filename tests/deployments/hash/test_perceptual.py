"""Hashes of how a picture looks, on photographs."""

import io
import itertools
from collections.abc import Callable

import pytest
from PIL import Image, ImageEnhance

from deployments.hash.algo.perceptual import perceptual_hashes
from deployments.runtime.picture import Picture
from deployments.runtime.types import Media

PHOTOS = ("obama", "obama2", "biden", "astronaut", "chelsea", "coffee", "gravel", "rocket")


@pytest.fixture(scope="module")
def photos(photo: Callable[[str], Media]) -> dict[str, Image.Image]:
    """Decoded photographs by their name."""
    return {name: Picture(photo(name)).rgb() for name in PHOTOS}


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    """Put a picture through a JPEG."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Picture(Media(buffer.getvalue())).rgb(1)


def distance(first: Image.Image, second: Image.Image) -> tuple[int, int]:
    """Count the bits in which phash and dhash of two pictures differ."""
    one, other = perceptual_hashes(first), perceptual_hashes(second)
    return (
        (int(one.phash, 16) ^ int(other.phash, 16)).bit_count(),
        (int(one.dhash, 16) ^ int(other.dhash, 16)).bit_count(),
    )


@pytest.mark.parametrize(
    ("change", "most"),
    [
        (lambda image: image, (0, 0)),
        (lambda image: jpeg(image, 75), (2, 2)),
        (lambda image: jpeg(image, 30), (2, 3)),
        (lambda image: image.resize((image.width // 2, image.height // 2)), (2, 3)),
        (lambda image: image.resize((300, 300 * image.height // image.width)), (2, 3)),
        (lambda image: ImageEnhance.Brightness(image).enhance(1.2), (4, 3)),
        (lambda image: ImageEnhance.Brightness(image).enhance(0.8), (4, 3)),
        (lambda image: image.convert("L").convert("RGB"), (2, 2)),
    ],
    ids=["none", "jpeg75", "jpeg30", "half", "300px", "brighter", "darker", "grey"],
)
def test_small_changes(
    photos: dict[str, Image.Image],
    change: Callable[[Image.Image], Image.Image],
    most: tuple[int, int],
) -> None:
    """Small changes turn few of the 64 bits."""
    for name, image in photos.items():
        phash, dhash = distance(image, change(image))
        assert phash <= most[0], name
        assert dhash <= most[1], name


def test_different_photos(photos: dict[str, Image.Image]) -> None:
    """Different photos differ in about half of the bits, two of one person as well."""
    for first, second in itertools.combinations(PHOTOS, 2):
        phash, dhash = distance(photos[first], photos[second])
        assert phash >= 20, (first, second)
        assert dhash >= 20, (first, second)


@pytest.mark.parametrize("size", [(1, 1), (5, 300), (300, 5)])
def test_odd_shapes(size: tuple[int, int]) -> None:
    """Pictures of any shape have 64 bits; one colour has no edge in it."""
    hashes = perceptual_hashes(Image.new("RGB", size, (80, 90, 100)))
    assert (16, 16) == (len(hashes.phash), len(hashes.dhash))
    assert "0" * 16 == hashes.dhash
