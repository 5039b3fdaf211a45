"""The photos of the workloads, made without a model."""

import io
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from PIL import Image

from benchmarks.errors import BenchmarkError
from benchmarks.workloads.photos import (
    LARGE_BYTES,
    PHOTOS,
    SIZES,
    Box,
    Size,
    encode,
    group,
    head,
    large_portrait,
    make_photo,
    name_of,
    small_portrait,
)
from deployments.runtime.random_media import ImageGenerator

FACE: Box = (0.25, 0.25, 0.75, 0.75)


@pytest.fixture(scope="module")
def portrait() -> Image.Image:
    """A made-up picture in the proportions of a portrait."""
    return ImageGenerator(size=(480, 600), seed=3).image()


def finding(*counts: int) -> Callable[[bytes], Sequence[Box]]:
    """Make a detector that finds so many faces, one number after the other, the last for ever."""
    left = list(counts)
    return lambda _: [FACE] * (left.pop(0) if len(left) > 1 else left[0])


@pytest.mark.parametrize("size", [(480, 600), (900, 500), (300, 1200)])
def test_the_small_photo_has_its_size_whatever_the_portrait(size: tuple[int, int]) -> None:
    """Scaled and cropped, never stretched."""
    assert SIZES["small"] == small_portrait(ImageGenerator(size=size).image()).size


def test_the_large_photo_is_as_cameras_write_it(portrait: Image.Image) -> None:
    """12 megapixels in 3 to 5 MB, the portrait in it, the rest background."""
    data = encode("large", large_portrait(portrait))
    assert LARGE_BYTES[0] <= len(data) <= LARGE_BYTES[1]
    image = Image.open(io.BytesIO(data))
    assert (SIZES["large"], "JPEG") == (image.size, image.format)
    centre = np.asarray(image.convert("RGB").crop((1040, 600, 2960, 3000)).resize((48, 60)), float)
    expected = np.asarray(portrait.resize((48, 60)), float)
    assert np.abs(centre - expected).mean() < 12


def test_a_head_is_a_square_around_the_face(portrait: Image.Image) -> None:
    """A little more than the face; a portrait without one is refused."""
    assert (480, 480) == head(portrait, finding(1)).size
    with pytest.raises(BenchmarkError, match="no face"):
        head(portrait, finding(0))


@pytest.mark.parametrize(
    ("size", "count", "cell"),
    [("small", 4, (300, 400)), ("small", 20, (150, 160)), ("large", 20, (800, 750))],
)
def test_heads_stand_in_rows(size: Size, count: int, cell: tuple[int, int]) -> None:
    """In the middle of each cell there is a head; the first of several comes round again."""
    heads = [Image.new("RGB", (50, 50), colour) for colour in ("red", "lime")]
    picture = group(size, heads, count)
    columns = picture.width // cell[0]
    middles = [
        picture.getpixel(
            (i % columns * cell[0] + cell[0] // 2, i // columns * cell[1] + cell[1] // 2)
        )
        for i in range(count)
    ]
    assert [(255, 0, 0), (0, 255, 0)] * (count // 2) == middles


def test_names() -> None:
    """One face goes without saying; there is a photo of each size with each number of faces."""
    assert "small" == name_of("small", 1)
    assert "large, 20 faces" == name_of("large", 20)
    assert 8 == len(PHOTOS)


@pytest.mark.parametrize(
    ("name", "counts", "source"),
    [
        ("small", (2, 0, 1), "obama2"),
        ("large", (1,), "obama on background 0"),
        ("small, 0 faces", (3, 0), "no portrait"),
        ("small, 4 faces", (*[1] * 5, 3, 4), "4 heads from biden on"),
    ],
)
def test_a_photo_with_its_faces_is_taken(
    name: str, counts: tuple[int, ...], source: str, portrait: Image.Image
) -> None:
    """The first candidate in which the detector finds the wanted number wins."""
    photo = make_photo(name, lambda _: portrait, finding(*counts))
    assert (name, PHOTOS[name][1], source) == (photo.name, photo.faces, photo.source)


def test_photos_with_other_faces_are_refused(portrait: Image.Image) -> None:
    """The message lists what was found in each."""
    with pytest.raises(BenchmarkError, match="obama: 2, biden: 2, obama2: 2"):
        make_photo("small", lambda _: portrait, finding(2))
