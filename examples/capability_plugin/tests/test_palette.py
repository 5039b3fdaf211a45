"""Colours of pixels: few, exact where the picture is, and the same every time."""

import numpy as np
import pytest

from cl_ml_serve_dominant_colours.algo.oklab import to_oklab, to_srgb
from cl_ml_serve_dominant_colours.algo.palette import palette

BLACK, WHITE, RED, BLUE = (0, 0, 0), (255, 255, 255), (255, 0, 0), (0, 0, 255)


@pytest.mark.parametrize(
    ("pixels", "limit", "colours", "shares"),
    [
        pytest.param([], 5, [], [], id="empty"),
        pytest.param([RED], 5, [RED], [1.0], id="one pixel"),
        pytest.param([BLUE, RED, BLUE, BLUE], 5, [BLUE, RED], [0.75, 0.25], id="fewer than asked"),
        pytest.param([BLACK, (1, 0, 0)] * 8, 2, [BLACK], [1.0], id="equal to the eye"),
        pytest.param([BLACK] * 2 + [WHITE] + [BLUE] * 5, 1, None, [1.0], id="limit"),
    ],
)
def test_palette(
    pixels: list[tuple[int, int, int]],
    limit: int,
    colours: list[tuple[int, int, int]] | None,
    shares: list[float],
) -> None:
    """Flat colours are found exactly, largest share first."""
    found, found_shares = palette(np.array(pixels, np.uint8).reshape(-1, 3), limit)
    if colours is not None:
        assert colours == [tuple(colour) for colour in found.tolist()]
    assert shares == found_shares.tolist()


def test_shares_of_noise() -> None:
    """Whatever the pixels are, colours are as many as asked for and shares add up to 1."""
    pixels = np.random.default_rng(0).integers(0, 256, (5000, 3), np.uint8)
    colours, shares = palette(pixels, 16)
    assert (16, 3) == colours.shape
    assert sorted(shares, reverse=True) == shares.tolist()
    assert pytest.approx(1.0) == shares.sum()


def test_order_of_pixels_does_not_matter() -> None:
    """A mirrored picture has the same colours."""
    pixels = np.random.default_rng(1).integers(0, 256, (5000, 3), np.uint8)
    for here, there in zip(palette(pixels, 5), palette(pixels[::-1], 5), strict=True):
        assert here.tolist() == there.tolist()


def test_oklab() -> None:
    """Known values of the colour space, and every grey comes back as it was."""
    expected = [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.628, 0.225, 0.126], [0.452, -0.032, -0.312]]
    known = np.array([BLACK, WHITE, RED, BLUE], np.uint8)
    np.testing.assert_allclose(to_oklab(known), expected, atol=1e-3)
    greys = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    assert greys.tolist() == to_srgb(to_oklab(greys)).tolist()
