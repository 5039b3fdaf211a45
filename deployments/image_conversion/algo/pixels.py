"""Pixels brought to a mode that a format can hold."""

import numpy as np
from PIL import Image

from deployments.runtime.pixels import to_rgb

# Modes that lose nothing, the smallest first, and what is left when a format has none of them.
_CHOICES: dict[str, tuple[str, ...]] = {
    "1": ("1", "L", "RGB"),
    "L": ("L", "RGB"),
    "LA": ("LA", "RGBA", "RGB"),
    "I;16": ("I;16", "L", "RGB"),
    "RGB": ("RGB",),
    "RGBA": ("RGBA", "RGB"),
    "CMYK": ("RGB",),
}


def simplify(image: Image.Image) -> Image.Image:
    """Bring an image of any mode to one of ``1 L LA I;16 RGB RGBA CMYK``.

    Grey of more than 16 bits, and of fractions, is scaled to 8 bits.
    """
    if image.mode.startswith("I;16"):
        return Image.fromarray(np.asarray(image).astype(np.uint16))
    if image.mode in {"I", "F"}:
        return to_rgb(image).convert("L")
    if image.has_transparency_data:
        return image.convert("LA" if image.mode in {"1", "L", "LA", "La"} else "RGBA")
    return image if image.mode in _CHOICES else image.convert("RGB")


def best_mode(mode: str, modes: frozenset[str]) -> str:
    """Return the one of ``modes``, which must have RGB, that holds most of a simple ``mode``."""
    return next(choice for choice in _CHOICES[mode] if choice in modes)


def common_mode(modes: set[str]) -> str:
    """Return a mode that all frames of an animation can have."""
    if len(modes) == 1:
        return next(iter(modes))
    return "RGBA" if modes & {"LA", "RGBA"} else "RGB"


def to_mode(image: Image.Image, mode: str, background: tuple[int, int, int]) -> Image.Image:
    """Bring an image of a simple mode to another; transparent parts show ``background`` (RGB).

    The background's numbers are taken as they are, whatever the picture's colour profile: black,
    white and greys are the same in all that people use.
    """
    if image.mode == mode:
        return image
    if image.mode == "I;16":
        image = to_rgb(image)
    if image.mode.endswith("A") and not mode.endswith("A"):
        flat = Image.new("RGBA", image.size, (*background, 255))
        flat.alpha_composite(image.convert("RGBA"))
        image = flat
    return image.convert(mode)
