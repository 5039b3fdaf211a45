"""Which part of a picture becomes a thumbnail of which size."""

from dataclasses import dataclass

from deployments.media_thumbnail.schema import DEFAULT_SIDE_PX, Fit


@dataclass(frozen=True, slots=True)
class Placement:
    """What is cut out of the picture and what size it gets.

    ``crop`` is (left, top, right, bottom) in pixels of the picture, not necessarily whole ones;
    ``size`` is (width, height) of the thumbnail in pixels.
    """

    crop: tuple[float, float, float, float]
    size: tuple[int, int]

    @property
    def scale(self) -> float:
        """Pixels of the thumbnail per pixel of the picture, in the direction that has more."""
        left, top, right, bottom = self.crop
        return max(self.size[0] / (right - left), self.size[1] / (bottom - top))


def place(size: tuple[int, int], width: int | None, height: int | None, fit: Fit) -> Placement:
    """Fit a picture of ``size``, (width, height) in pixels, into a box.

    A side that is None follows the other one; with both None the box is square. Nothing is
    enlarged, except by ``fill``, which gives exactly the box: where the picture is too small,
    ``contain`` gives it as it is and ``cover`` the largest part that has the box's proportions.
    """
    picture_width, picture_height = size
    whole = (0.0, 0.0, float(picture_width), float(picture_height))
    if width is None and height is None:
        width = height = DEFAULT_SIDE_PX
    if width is None or height is None:
        scale = width / picture_width if width else (height or 0) / picture_height
        return Placement(whole, _scaled(size, min(1.0, scale)))
    if fit == "fill":
        return Placement(whole, (width, height))
    if fit == "contain":
        scale = min(1.0, width / picture_width, height / picture_height)
        return Placement(whole, _scaled(size, scale))
    ratio = min(picture_width / width, picture_height / height)
    # Not below 0 by rounding either.
    left = max(0.0, (picture_width - width * ratio) / 2)
    top = max(0.0, (picture_height - height * ratio) / 2)
    crop = (left, top, picture_width - left, picture_height - top)
    return Placement(crop, _scaled((width, height), min(1.0, ratio)))


def _scaled(size: tuple[int, int], scale: float) -> tuple[int, int]:
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
