"""A picture put together from given photos, so that where each of them is, is known exactly."""

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from deployments.runtime.types import Box


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a photo goes on the canvas, and how wide; its height follows from its proportions.

    May reach past the canvas, which cuts the photo off.
    """

    left_px: int
    top_px: int
    width_px: int


@dataclass(frozen=True, slots=True)
class Montage:
    """The picture, and the normalised box of each photo in it, in the order given."""

    image: Image.Image
    boxes: tuple[Box, ...]


def montage(
    photos: Sequence[Image.Image],
    placements: Sequence[Placement],
    size: tuple[int, int],
    background: tuple[int, int, int] = (128, 128, 128),
) -> Montage:
    """Paste photos onto a canvas.

    Args:
        photos: the photos, any mode; later ones cover earlier ones.
        placements: one for each photo.
        size: (width, height) of the canvas in pixels.
        background: RGB, 0 to 255.

    Returns:
        The RGB picture and the boxes, which reach past 0 and 1 where a photo is cut off.

    Raises:
        ValueError: the numbers of photos and placements differ.

    """
    if len(photos) != len(placements):
        raise ValueError(f"expected a placement per photo, got {len(placements)} for {len(photos)}")
    canvas = Image.new("RGB", size, background)
    width, height = size
    boxes: list[Box] = []
    for photo, place in zip(photos, placements, strict=True):
        height_px = max(1, round(place.width_px * photo.height / photo.width))
        scaled = photo.convert("RGB").resize(
            (place.width_px, height_px),
            Image.Resampling.LANCZOS,
        )
        canvas.paste(scaled, (place.left_px, place.top_px))
        boxes.append(
            Box(
                x1=place.left_px / width,
                y1=place.top_px / height,
                x2=(place.left_px + place.width_px) / width,
                y2=(place.top_px + height_px) / height,
            ),
        )
    return Montage(canvas, tuple(boxes))
