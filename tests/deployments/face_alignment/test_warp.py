"""The warp."""

import numpy as np
import pytest
from PIL import Image

from deployments.face_alignment.algo.similarity import Similarity
from deployments.face_alignment.algo.template import CROP_PX
from deployments.face_alignment.algo.warp import warp


def ramp(width: int, height: int) -> Image.Image:
    """A picture whose red is x and whose green is y, in quarters of a pixel."""
    x, y = np.arange(width) / 4, np.arange(height) / 4
    pixels = np.stack(np.broadcast_arrays(x[None, :], y[:, None], 7.0), axis=2)
    return Image.fromarray(np.rint(pixels).astype(np.uint8))


def test_identity() -> None:
    """A crop at the picture's own scale is the picture's pixels."""
    picture = ramp(300, 200)
    crop = warp(picture, Similarity(1, 0, -40, -30))
    assert crop.shape == (CROP_PX, CROP_PX, 3)
    assert crop.dtype == np.uint8
    np.testing.assert_array_equal(crop, np.asarray(picture)[30:142, 40:152])


@pytest.mark.parametrize("scale", [0.13, 0.3, 0.5, 0.9, 1.7])
@pytest.mark.parametrize("angle", [0.0, 0.4, -2.5])
def test_places(scale: float, angle: float) -> None:
    """Each pixel of a crop shows the place of the picture that the transform says."""
    a, b = scale * np.cos(angle), scale * np.sin(angle)
    centre = np.array([500, 480])
    shift = np.array([56, 56]) - (a * centre[0] - b * centre[1], b * centre[0] + a * centre[1])
    transform = Similarity(float(a), float(b), float(shift[0]), float(shift[1]))
    crop = warp(ramp(1000, 1000), transform)
    rows = np.arange(4, 108, 8)
    centres = np.stack(np.meshgrid(rows, rows), axis=-1).reshape(-1, 2)
    expected = (transform.inverse.apply(centres + 0.5) - 0.5) / 4
    shown = crop[centres[:, 1], centres[:, 0], :2]
    inside = np.all((expected > 2) & (expected < 245), axis=1)
    assert inside.sum() > 20
    # One grey level is four pixels of the picture. Pillow rounds the levels down on the way.
    difference = shown[inside] - expected[inside]
    assert np.abs(difference).max() <= 1.6
    assert np.abs(difference.mean(axis=0) + 0.25).max() <= 0.35


def test_reduction_does_not_alias() -> None:
    """Fine stripes become grey in a small crop, and do not turn into coarse ones."""
    pixels = np.zeros((900, 900, 3), np.uint8)
    pixels[:, ::2] = 255
    crop = warp(Image.fromarray(pixels), Similarity(0.125, 0, 0, 0))
    assert np.abs(crop[8:-8, 8:-8].astype(int) - 128).max() <= 2


@pytest.mark.parametrize(
    "transform",
    [Similarity(1, 0, 5000, 0), Similarity(1, 0, 0, -5000), Similarity(1e-6, 0, 0, 0)],
)
def test_beside_the_picture(transform: Similarity) -> None:
    """A crop that shows nothing, or next to nothing, of the picture is still a crop."""
    crop = warp(Image.new("RGB", (50, 40), "white"), transform)
    assert crop.shape == (CROP_PX, CROP_PX, 3)
    assert crop[60:, 60:].sum() == 0


def test_past_the_edge_is_black() -> None:
    """What a crop shows past the picture's edge is black."""
    crop = warp(Image.new("RGB", (200, 200), "white"), Similarity(1, 0, 50, 0))
    assert not crop[:, :49].any()
    assert np.all(crop[:, 51:] == 255)
