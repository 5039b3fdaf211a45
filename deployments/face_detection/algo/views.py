"""Views: the squares of a picture that the detector looks at, and the way back to the picture.

The detector sees a small square, so what it finds depends on how the picture is laid into it. A
letterboxed view shows all of the picture; one with a border shows faces that fill the frame or
are cut by its edge as the detector knows them, with something around; tiles show small faces
larger. A view is planned on the size of the picture alone, so that planning needs no pixels and
does not depend on the scale at which the picture was decoded.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from PIL import Image

TILE_OVERLAP_SHARE = 0.25
"""Share of a tile's side that its neighbour shows too; a face up to this size is whole in one."""

_MAX_TILE_SHARE = 0.75
"""Of the picture's long side: a larger tile shows nothing that the whole picture does not."""

_BACKGROUND = 0
"""What lies around the picture: black, as MediaPipe's letterbox has it."""

_REDUCING_GAP = 2.0
"""How coarse Pillow may begin: at twice the wanted size or more. Less shows in the result."""


@dataclass(frozen=True, slots=True)
class View:
    """One square that the detector looks at.

    Attributes:
        source: (x1, y1, x2, y2) of the part of the picture that is shown, normalised.
        target: (x1, y1, x2, y2) of its place in the square, in whole input pixels.
        inner: which sides (left, top, right, bottom) of the square cut through the picture.
        min_box_px: faces smaller than this, in input pixels, are left to other views.

    """

    source: tuple[float, float, float, float]
    target: tuple[int, int, int, int]
    inner: tuple[bool, bool, bool, bool] = (False, False, False, False)
    min_box_px: float = 0.0

    @property
    def is_tile(self) -> bool:
        """Whether the view shows a part of the picture only."""
        return any(self.inner)

    @property
    def scale(self) -> NDArray[np.float32]:
        """(x, y): share of the picture's width and height per input pixel."""
        x1, y1, x2, y2 = self.source
        left, top, right, bottom = self.target
        return np.array([(x2 - x1) / (right - left), (y2 - y1) / (bottom - top)], np.float32)

    def to_picture(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map points (..., 2) from input pixels to normalised picture coordinates."""
        scale = self.scale
        offset = np.array(self.source[:2], np.float32) - scale * np.array(
            self.target[:2], np.float32
        )
        return (points * scale + offset).astype(np.float32, copy=False)


def bordered(
    size: tuple[int, int],
    input_px: int,
    border_share: float = 0.0,
    min_face_share: float = 0.0,
) -> View:
    """Plan a view of the whole picture, centred, with a border around it.

    Args:
        size: (width, height) of the picture in pixels.
        input_px: side of the detector's input.
        border_share: width of the border on each side of the longer dimension, as a share of the
            picture's long side; 0 for a plain letterbox.
        min_face_share: faces smaller than this share of the long side are left to other views.

    """
    scale = input_px / (max(size) * (1 + 2 * border_share))
    width, height = (max(1, round(length * scale)) for length in size)
    left, top = (input_px - width) // 2, (input_px - height) // 2
    return View(
        (0.0, 0.0, 1.0, 1.0),
        (left, top, left + width, top + height),
        min_box_px=min_face_share * max(size) * scale,
    )


def tiles(size: tuple[int, int], input_px: int, max_tiles: int, min_side_px: int) -> list[View]:
    """Plan overlapping square tiles, as small as a number of them covers the picture with.

    Args:
        size: (width, height) of the picture in pixels.
        input_px: side of the detector's input.
        max_tiles: the most tiles.
        min_side_px: the smallest useful side of a tile, in the picture's pixels.

    Returns:
        Tiles in rows from the top left. None where they would show hardly less than the whole.

    """
    grids = [
        (max(_side(size[0], columns), _side(size[1], rows)), columns, rows)
        for columns, rows in product(range(1, max_tiles + 1), repeat=2)
        if columns * rows <= max_tiles
    ]
    side, columns, rows = min((grid for grid in grids if grid[0] >= min_side_px), default=grids[0])
    if side > _MAX_TILE_SHARE * max(size):
        return []
    return [
        _tile(size, input_px, side, left, top)
        for top in _starts(size[1], side, rows)
        for left in _starts(size[0], side, columns)
    ]


def needed_long_side_px(size: tuple[int, int], views: list[View]) -> int:
    """Return the scale of a picture, as its long side, at which no view must enlarge it.

    Args:
        size: (width, height) of the picture in pixels.
        views: what will be rendered.

    """
    scales = [1 / (np.array(size) * view.scale) for view in views]
    return int(np.ceil(max(size) * np.max(scales)))


def render(picture: Image.Image, view: View, input_px: int) -> NDArray[np.uint8]:
    """Show a view of a picture.

    Args:
        picture: the whole picture in RGB, at any scale.
        view: what to show.
        input_px: side of the detector's input.

    Returns:
        (input_px, input_px, 3), uint8 RGB.

    """
    x1, y1, x2, y2 = view.source
    left, top, right, bottom = view.target
    shown = picture.resize(
        (right - left, bottom - top),
        Image.Resampling.HAMMING,
        box=(x1 * picture.width, y1 * picture.height, x2 * picture.width, y2 * picture.height),
        reducing_gap=_REDUCING_GAP,
    )
    if shown.size == (input_px, input_px):
        return np.asarray(shown)
    square = np.full((input_px, input_px, 3), _BACKGROUND, np.uint8)
    square[top:bottom, left:right] = np.asarray(shown)
    return square


def _side(length_px: int, count: int) -> float:
    """Side of ``count`` tiles in a row that cover a length with the least overlap allowed."""
    return length_px / (count - (count - 1) * TILE_OVERLAP_SHARE)


def _starts(length_px: int, side_px: float, count: int) -> list[float]:
    """Where ``count`` tiles begin, spread evenly; a single one is centred."""
    if count == 1:
        return [(length_px - side_px) / 2]
    return [float(start) for start in np.linspace(0.0, length_px - side_px, count)]


def _tile(
    size: tuple[int, int],
    input_px: int,
    side: float,
    left: float,
    top: float,
) -> View:
    scale = input_px / side
    # Per axis: left and right, then top and bottom.
    source: list[float] = []
    target: list[int] = []
    inner: list[bool] = []
    for start, length in ((left, size[0]), (top, size[1])):
        first, last = max(0.0, start), min(float(length), start + side)
        low = round((first - start) * scale)
        high = min(input_px, max(low + 1, round((last - start) * scale)))
        source += [first / length, last / length]
        target += [min(low, high - 1), high]
        # Half a pixel: what rounding may leave of a tile that ends with the picture.
        inner += [start > 0.5, start + side < length - 0.5]  # noqa: PLR2004 - said above
    return View(
        (source[0], source[2], source[1], source[3]),
        (target[0], target[2], target[1], target[3]),
        (inner[0], inner[2], inner[1], inner[3]),
    )
