"""Pixels of any mode that Pillow reads, as RGB."""

import numpy as np
from PIL import Image

_WHITE = (255, 255, 255, 255)
_HIGHEST_16_BIT = 65_535


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert any mode that a reader gives to RGB; always a new image.

    Transparent parts are shown on white; 16-bit samples are scaled to 8 bits.

    Raises:
        ValueError: the mode has no conversion.

    """
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(_to_uint8(np.asarray(image))).convert("RGB")
    if image.has_transparency_data:
        with_alpha = image.convert("RGBA")
        white = Image.new("RGBA", image.size, _WHITE)
        white.alpha_composite(with_alpha)
        return white.convert("RGB")
    return image.convert("RGB")


def _to_uint8(samples: np.ndarray) -> np.ndarray:
    """Scale grey samples to 8 bits.

    16-bit samples go by 1/257, so that 65,535 becomes 255. Wider integers are read as 16 bits
    when all of them fit, which is how 16-bit files often arrive. Floats are 0 to 1 by
    convention; where some are outside, the lowest becomes black and the highest white.

    Args:
        samples: (height, width), any integer or float type.

    Returns:
        (height, width), uint8.

    """
    if samples.dtype.kind == "f":
        finite = np.nan_to_num(samples, nan=0.0, posinf=0.0, neginf=0.0)
        low, high = float(finite.min()), float(finite.max())
        if low < 0 or high > 1:
            finite = (finite - low) / (high - low or 1.0)
        return np.rint(finite * 255).astype(np.uint8)
    highest = _HIGHEST_16_BIT
    if samples.dtype.itemsize > np.dtype(np.uint16).itemsize:
        samples = np.clip(samples, 0, None)
        if samples.max() > highest:
            return (samples.astype(np.uint32) >> 23).astype(np.uint8)  # 31 bits to 8
    # A table costs one byte a pixel; arithmetic in 32 bits would cost four more.
    table = ((np.arange(highest + 1, dtype=np.uint32) * 255 + highest // 2) // highest).astype(
        np.uint8,
    )
    return table[samples]
