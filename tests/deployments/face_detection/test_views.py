"""Planning and rendering of views."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from deployments.face_detection.algo.search import plan
from deployments.face_detection.algo.views import (
    TILE_OVERLAP_SHARE,
    bordered,
    needed_long_side_px,
    render,
    tiles,
)

INPUT_PX = 192
sizes = st.tuples(st.integers(1, 6000), st.integers(1, 6000))


@pytest.mark.parametrize(
    ("size", "border", "target"),
    [
        ((400, 400), 0.0, (0, 0, 192, 192)),
        ((400, 200), 0.0, (0, 48, 192, 144)),
        ((200, 400), 0.0, (48, 0, 144, 192)),
        ((400, 400), 0.5, (48, 48, 144, 144)),
        ((1, 1), 0.0, (0, 0, 192, 192)),
        ((10000, 1), 0.0, (0, 95, 192, 96)),
    ],
)
def test_bordered(
    size: tuple[int, int],
    border: float,
    target: tuple[int, int, int, int],
) -> None:
    """The whole picture lies in the middle of the square, in its own proportions."""
    view = bordered(size, INPUT_PX, border)
    assert view.target == target
    assert view.source == (0, 0, 1, 1)
    assert not view.is_tile


@pytest.mark.parametrize(
    ("size", "max_tiles", "expected"),
    [
        ((100, 100), 6, 0),  # one tile would show all of it
        ((1600, 1200), 1, 0),
        ((1600, 1200), 6, 6),
        ((1200, 1600), 6, 6),
        ((1600, 1200), 16, 15),
        ((8000, 1000), 6, 6),
        ((300, 100), 16, 4),  # smaller tiles would only be enlarged
        ((50, 50), 16, 0),
    ],
)
def test_number_of_tiles(size: tuple[int, int], max_tiles: int, expected: int) -> None:
    """As many tiles as make them small, within both limits."""
    assert len(tiles(size, INPUT_PX, max_tiles, 96)) == expected


def test_inner_edges() -> None:
    """Sides where the picture goes on are inner, and those at its edge are not."""
    found = tiles((1600, 1200), INPUT_PX, 6, 96)
    assert found[0].inner == (False, False, True, True)
    assert found[1].inner == (True, False, True, True)
    assert found[-1].inner == (True, True, False, False)


@given(sizes, st.integers(1, 16))
def test_tiles_cover_the_picture(size: tuple[int, int], max_tiles: int) -> None:
    """Tiles leave no gap, overlap as promised, and stay within their number and the input."""
    found = tiles(size, INPUT_PX, max_tiles, 96)
    assert len(found) <= max_tiles
    for low, high in ((0, 2), (1, 3)):
        spans = sorted({(view.source[low], view.source[high]) for view in found})
        if not spans:
            continue
        assert spans[0][0] == 0
        assert spans[-1][1] == pytest.approx(1)
        for (_, end), (start, end_next) in pairwise(spans):
            assert end - start >= (TILE_OVERLAP_SHARE - 0.01) * (end_next - start)
    for view in found:
        left, top, right, bottom = view.target
        assert 0 <= left < right <= INPUT_PX
        assert 0 <= top < bottom <= INPUT_PX
        assert view.is_tile


@given(sizes, st.sampled_from(["fast", "standard", "thorough"]))
def test_there_and_back(size: tuple[int, int], effort: str) -> None:
    """The corners of a view's target are the corners of its source."""
    for view in plan(size, INPUT_PX, effort):  # pyright: ignore[reportArgumentType] - hypothesis widens
        corners = np.array(view.target, np.float32).reshape(2, 2)
        assert view.to_picture(corners).ravel() == pytest.approx(np.array(view.source), abs=1e-4)


@pytest.mark.parametrize(
    ("effort", "views", "needed_px"),
    [("fast", 1, 192), ("standard", 2, 192), ("thorough", 23, 640)],
)
def test_plan(effort: str, views: int, needed_px: int) -> None:
    """The number of runs that each effort costs, and the scale it needs the picture at."""
    planned = plan((1600, 1200), INPUT_PX, effort)  # pyright: ignore[reportArgumentType] - a literal
    assert len(planned) == views
    assert needed_long_side_px((1600, 1200), planned) == pytest.approx(needed_px, rel=0.02)


def test_small_picture_gets_no_tile_twice() -> None:
    """Where small tiles would be as large as large ones, they are left out."""
    planned = plan((240, 180), INPUT_PX, "thorough")
    assert len(planned) == len(set(planned))


def test_render_letterbox() -> None:
    """The picture is in its place and black around it."""
    square = render(Image.new("RGB", (40, 20), "red"), bordered((40, 20), 64), 64)
    assert square.shape == (64, 64, 3)
    assert square.dtype == np.uint8
    assert np.all(square[16:48] == (255, 0, 0))
    assert not square[:16].any()
    assert not square[48:].any()


def test_render_does_not_depend_on_scale() -> None:
    """A picture decoded at half its size gives the same view."""
    ramp = np.linspace(0, 255, 800)
    pixels = np.stack(np.broadcast_arrays(ramp[None, :], ramp[:600, None], 99), axis=2)
    full = Image.fromarray(pixels.astype(np.uint8))
    half = full.resize((400, 300), Image.Resampling.BOX)
    for view in plan(full.size, INPUT_PX, "thorough"):
        difference = render(full, view, 192).astype(int) - render(half, view, 192)
        assert np.abs(difference).max() <= 3
