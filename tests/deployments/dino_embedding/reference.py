"""torchvision's ``Resize`` and ``CenterCrop`` on PIL images in plain NumPy, and what they give.

This is the reference that the project's crops are compared with, written from the description of
the algorithm and not with Pillow: each pass (first across, then down) weighs the pixels around the
middle of every new pixel, with a filter that is widened when the picture becomes smaller, and
rounds to whole numbers. Weights are rounded first, to ``BITS`` binary places. Sources:
``precompute_coeffs`` in Pillow's ``Resample.c`` (MIT-CMU), ``_compute_resized_output_size`` and
``center_crop`` in torchvision's ``transforms/functional.py`` (BSD-3-Clause).

``python -m tests.deployments.dino_embedding.reference`` writes the golden arrays anew.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

GOLDEN = Path(__file__).parents[2] / "golden"

SIZES = {
    "landscape": (640, 480),
    "portrait": (300, 500),
    "square": (333, 333),
    "nothing to resize": (256, 256),
    "odd, to even below": (511, 257),
    "odd, to even": (301, 257),
    "tiny": (20, 13),
    "one pixel": (1, 1),
    "one pixel high": (40, 1),
    "long": (50, 900),
}
"""(width, height) of the golden pictures; the last but one is beyond 16:1, and so is the last."""

BITS = 22  # PRECISION_BITS in Resample.c: 32 less 8 of the pixel and 2 for sums

Filter = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def bicubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys's cubic with a = -0.5, as Pillow has it; 0 beyond 2."""
    a, x = -0.5, np.abs(x)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def bilinear(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Triangle; 0 beyond 1."""
    return np.maximum(0.0, 1 - np.abs(x))


FILTERS: dict[str, tuple[Filter, float]] = {"bicubic": (bicubic, 2.0), "bilinear": (bilinear, 1.0)}


def resize_axis(
    pixels: NDArray[np.uint8], axis: int, size: int, kernel: Filter, reach: float
) -> NDArray[np.uint8]:
    """Resize one axis; ``reach`` is how far the filter is not 0."""
    length = pixels.shape[axis]
    if length == size:
        return pixels
    moved = np.moveaxis(pixels, axis, 0).astype(np.int64)
    scale = length / size
    widened = max(scale, 1.0)
    rows: list[NDArray[np.int64]] = []
    for new in range(size):
        middle = (new + 0.5) * scale
        first = max(0, int(middle - reach * widened + 0.5))
        last = min(length, int(middle + reach * widened + 0.5))
        weights = kernel((np.arange(first, last) - middle + 0.5) / widened)
        scaled = weights / weights.sum() * 2**BITS
        whole = np.where(scaled < 0, np.ceil(scaled - 0.5), np.floor(scaled + 0.5))
        rows.append(np.tensordot(whole.astype(np.int64), moved[first:last], 1))
    rounded = np.clip((np.stack(rows) + 2 ** (BITS - 1)) >> BITS, 0, 255)
    return np.moveaxis(rounded.astype(np.uint8), 0, axis)


def reference_crop(
    pixels: NDArray[np.uint8], resize_px: int, crop_px: int, filter_name: str
) -> NDArray[np.uint8]:
    """Resize the shorter side of (H, W, 3) uint8 to ``resize_px``, and cut out the centre."""
    height, width = pixels.shape[:2]
    short, long = min(width, height), max(width, height)
    longer = int(resize_px * long / short)
    new_width, new_height = (resize_px, longer) if width <= height else (longer, resize_px)
    kernel, reach = FILTERS[filter_name]
    pixels = resize_axis(pixels, 1, new_width, kernel, reach)
    pixels = resize_axis(pixels, 0, new_height, kernel, reach)
    top = int(round((new_height - crop_px) / 2.0))  # noqa: RUF046 - torchvision's own words
    left = int(round((new_width - crop_px) / 2.0))  # noqa: RUF046 - torchvision's own words
    return pixels[top : top + crop_px, left : left + crop_px]


def picture(size: tuple[int, int]) -> NDArray[np.uint8]:
    """Make (H, W, 3) uint8 with a gradient, edges and rings, from whole numbers alone."""
    width, height = size
    y, x = np.mgrid[:height, :width]
    red = (x * 3 + y) // 4 % 256
    green = ((x // 9 + y // 7) % 2) * 200 + 20
    blue = np.where((x - width // 2) ** 2 + (y - height // 3) ** 2 < width * height // 9, 250, 5)
    return np.stack([red, green, blue], axis=-1).astype(np.uint8)


def golden_path(name: str) -> Path:
    """Return the file of one capability's golden crops."""
    return GOLDEN / f"{name}_crops.npz"


def write_golden() -> None:
    """Write the crops of all sizes as the two models take them."""
    for name, resize_px, crop_px, kernel in (
        ("dino_embedding", 256, 224, "bicubic"),
        ("clip_embedding", 256, 256, "bilinear"),
    ):
        crops = {
            size_name: reference_crop(picture(size), resize_px, crop_px, kernel)
            for size_name, size in SIZES.items()
        }
        np.savez_compressed(golden_path(name), allow_pickle=False, **crops)


if __name__ == "__main__":
    write_golden()
