"""The photos of the workloads, made without a model."""

import io

import numpy as np
import pytest
from PIL import Image

from benchmarks.errors import BenchmarkError
from benchmarks.photos import (
    LARGE_BYTES,
    LARGE_PX,
    SMALL_PX,
    large_photo,
    make_photo,
    small_photo,
)
from deployments.runtime.random_media import ImageGenerator


@pytest.fixture(scope="module")
def portrait() -> Image.Image:
    """A made-up picture in the proportions of a portrait."""
    return ImageGenerator(size=(480, 600), seed=3).image()


def opened(data: bytes) -> Image.Image:
    """Open encoded bytes."""
    return Image.open(io.BytesIO(data))


@pytest.mark.parametrize("size", [(480, 600), (900, 500), (300, 1200)])
def test_the_small_photo_has_its_size_whatever_the_portrait(size: tuple[int, int]) -> None:
    """Scaled and cropped, never stretched."""
    image = opened(small_photo(ImageGenerator(size=size).image()))
    assert SMALL_PX == image.size
    assert "JPEG" == image.format


def test_the_large_photo_is_as_cameras_write_it(portrait: Image.Image) -> None:
    """12 megapixels in 3 to 5 MB, the portrait in it, the rest background."""
    data = large_photo(portrait)
    assert LARGE_BYTES[0] <= len(data) <= LARGE_BYTES[1]
    image = opened(data)
    assert LARGE_PX == image.size
    centre = np.asarray(image.convert("RGB").crop((1040, 600, 2960, 3000)).resize((48, 60)), float)
    expected = np.asarray(portrait.resize((48, 60)), float)
    assert np.abs(centre - expected).mean() < 12


def test_a_photo_with_one_face_is_taken(portrait: Image.Image) -> None:
    """The first candidate that has exactly one face wins, and its source is kept."""
    counts = iter([2, 0, 1])
    photo = make_photo("small", lambda _: portrait, lambda _: next(counts))
    assert ("small", SMALL_PX, "obama2") == (photo.workload, photo.size, photo.source)


def test_photos_without_exactly_one_face_are_refused(portrait: Image.Image) -> None:
    """The message lists what was found in each."""
    with pytest.raises(BenchmarkError, match="obama: 2, biden: 2, obama2: 2"):
        make_photo("small", lambda _: portrait, lambda _: 2)
