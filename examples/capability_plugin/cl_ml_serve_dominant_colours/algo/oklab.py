"""Between sRGB and Oklab, in which equal distances look about equally large.

A mean in sRGB is darker than the colours that it is made of; a mean in Oklab looks like them.
The matrices are those of Björn Ottosson, "A perceptual color space for image processing"
(https://bottosson.github.io/posts/oklab/), public domain.
"""

import numpy as np
from numpy.typing import NDArray

# Where sRGB's curve turns from a line into a power, encoded and linear (IEC 61966-2-1).
_KNEE = 0.04045
_LINEAR_KNEE = 0.0031308

_TO_CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


def to_oklab(rgb: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Turn sRGB (N, 3), uint8, into Oklab (N, 3): lightness 0 to 1, green-red, blue-yellow."""
    encoded = rgb / 255.0
    linear = np.where(encoded <= _KNEE, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    return np.cbrt(linear @ _TO_CONES.T) @ _TO_LAB.T


def to_srgb(oklab: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Turn Oklab (N, 3) into sRGB (N, 3), uint8; what sRGB can't show becomes its nearest edge."""
    cones = (oklab @ np.linalg.inv(_TO_LAB).T) ** 3
    linear = np.clip(cones @ np.linalg.inv(_TO_CONES).T, 0.0, 1.0)
    encoded = np.where(linear <= _LINEAR_KNEE, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.rint(encoded * 255.0).astype(np.uint8)
