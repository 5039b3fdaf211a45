"""How far a face's embedding can be trusted, from its crop, its size and the detector.

Sharpness is the variance of the Laplacian of the aligned grey crop, which falls as an image is
blurred, on a curve to 0..1. All crops show a face at one scale, which is what makes the figure
comparable between photos; a small face, enlarged to its crop, counts as blurred, which it is.

Calibration on the crops of seven portraits, blurred by a Gaussian of the given deviation in crop
pixels: range of the variance, and the cosine of MobileFaceNet's embedding with the sharp crop's::

    deviation   variance   sharpness    cosine
    0           382-873    0.95-0.98    1
    1            41-78     0.67-0.80    0.97-0.99
    1.5          13-26     0.39-0.57    0.91-0.96
    2             6-11     0.23-0.35    0.75-0.89
    3             2-4      0.09-0.17    0.43-0.72
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

HALF_SHARPNESS_VARIANCE = 20.0
"""The variance that means 0.5: where the calibration's cosines begin to drop, at about 0.92."""

FULL_SIZE_PX = 64.0
"""Size from which a face is large enough. One portrait at decreasing sizes kept a cosine of 0.996
with its full size at 62 pixels, 0.98 at 46, 0.86 at 32 and 0.65 at 22."""

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601


def sharpness(crop: NDArray[np.uint8]) -> float:
    """Rate how sharp an aligned crop is.

    Args:
        crop: (H, W, 3), uint8 RGB, at least 3 x 3.

    Returns:
        0 for a flat crop, 0.5 for one that begins to be hard to recognise, towards 1.

    """
    grey = crop @ _LUMA
    centre, *around = _neighbours(grey)
    laplacian = sum(around) - 4 * centre
    # Pure black is where the crop reaches past the picture. The edge there says nothing of the
    # face, and would make every face at the picture's edge a sharp one.
    shown = np.logical_and.reduce(_neighbours(grey > 0))
    if not shown.any():
        return 0.0
    variance = float(laplacian[shown].var())
    return variance / (variance + HALF_SHARPNESS_VARIANCE)


def score(sharpness: float, size_px: float, confidence: float) -> float:
    """Combine what is known of a face into one number, 0 to 1.

    The product: a face is as usable as its worst property lets it be.

    Args:
        sharpness: of its crop, 0 to 1.
        size_px: side of a square of its box's area, in pixels of the original picture.
        confidence: the detector's, 0 to 1.

    """
    return sharpness * min(1.0, size_px / FULL_SIZE_PX) * confidence


def _neighbours(values: NDArray[Any]) -> list[NDArray[Any]]:
    """Return (H - 2, W - 2) views: each inner pixel, and what is above, below, left and right."""
    return [
        values[1:-1, 1:-1],
        values[:-2, 1:-1],
        values[2:, 1:-1],
        values[1:-1, :-2],
        values[1:-1, 2:],
    ]
