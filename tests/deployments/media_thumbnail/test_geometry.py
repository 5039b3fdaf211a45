"""Where a picture goes in a thumbnail."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

from deployments.media_thumbnail.algo.geometry import place
from deployments.media_thumbnail.schema import Fit

sides = st.integers(1, 5000)


@pytest.mark.parametrize(
    ("size", "width", "height", "fit", "crop", "expected"),
    [
        # No box: 512 x 512.
        ((4000, 3000), None, None, "contain", (0, 0, 4000, 3000), (512, 384)),
        ((3000, 4000), None, None, "contain", (0, 0, 3000, 4000), (384, 512)),
        ((4000, 3000), None, None, "cover", (500, 0, 3500, 3000), (512, 512)),
        ((4000, 3000), None, None, "fill", (0, 0, 4000, 3000), (512, 512)),
        # One side: the other follows, whatever the fit.
        ((4000, 3000), 400, None, "contain", (0, 0, 4000, 3000), (400, 300)),
        ((4000, 3000), None, 300, "cover", (0, 0, 4000, 3000), (400, 300)),
        ((4000, 3000), 400, None, "fill", (0, 0, 4000, 3000), (400, 300)),
        # Both sides.
        ((4000, 3000), 400, 400, "contain", (0, 0, 4000, 3000), (400, 300)),
        ((4000, 3000), 800, 300, "contain", (0, 0, 4000, 3000), (400, 300)),
        ((4000, 3000), 300, 300, "cover", (500, 0, 3500, 3000), (300, 300)),
        ((3000, 4000), 300, 300, "cover", (0, 500, 3000, 3500), (300, 300)),
        ((4000, 3000), 400, 100, "cover", (0, 1000, 4000, 2000), (400, 100)),
        ((4000, 3000), 100, 400, "fill", (0, 0, 4000, 3000), (100, 400)),
        # Smaller than the box: only fill enlarges.
        ((100, 80), None, None, "contain", (0, 0, 100, 80), (100, 80)),
        ((100, 80), 400, None, "fill", (0, 0, 100, 80), (100, 80)),
        ((100, 80), 400, 400, "cover", (10, 0, 90, 80), (80, 80)),
        ((100, 80), 50, 160, "cover", (37.5, 0, 62.5, 80), (25, 80)),
        ((100, 80), 400, 400, "fill", (0, 0, 100, 80), (400, 400)),
        ((1, 1), None, None, "cover", (0, 0, 1, 1), (1, 1)),
        ((24, 255), 1, 11, "cover", (0.40909, 0, 23.59091, 255), (1, 11)),
        # So long that a side would vanish.
        ((30000, 10), 512, 512, "contain", (0, 0, 30000, 10), (512, 1)),
        ((10, 30000), None, 20, "contain", (0, 0, 10, 30000), (1, 20)),
    ],
)
def test_place(  # noqa: PLR0913, PLR0917 - a table's columns
    size: tuple[int, int],
    width: int | None,
    height: int | None,
    fit: Fit,
    crop: tuple[float, float, float, float],
    expected: tuple[int, int],
) -> None:
    """What is cut out, and the size it gets."""
    placement = place(size, width, height, fit)
    assert expected == placement.size
    assert crop == pytest.approx(placement.crop, abs=1e-4)


@given(
    st.tuples(sides, sides),
    st.none() | st.integers(1, 4096),
    st.none() | st.integers(1, 4096),
    st.sampled_from(["contain", "cover", "fill"]),
)
def test_place_always(
    size: tuple[int, int], width: int | None, height: int | None, fit: Fit
) -> None:
    """The result is within the box and the cut-out within the picture; nothing is enlarged."""
    placement = place(size, width, height, fit)
    left, top, right, bottom = placement.crop
    assert 0 <= left < right <= size[0] + 1e-6
    assert 0 <= top < bottom <= size[1] + 1e-6
    assert 1 <= placement.size[0] <= (width or 4096 * 5000)
    assert 1 <= placement.size[1] <= (height or 4096 * 5000)
    enlarges = fit == "fill" and (width is None) == (height is None)
    assert enlarges or all(made <= had for made, had in zip(placement.size, size, strict=True))
