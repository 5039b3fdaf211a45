"""The dominant colours capability. There is no model, so all is done in ``prepare``."""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageCms

from cl_ml_serve_dominant_colours.algo.palette import palette
from cl_ml_serve_dominant_colours.schema import (
    DominantColour,
    DominantColoursParams,
    DominantColoursResult,
)
from deployments.runtime.capability import Capability, Work
from deployments.runtime.picture import Picture
from deployments.runtime.random_media import ImageGenerator

LONG_SIDE_PX = 256
"""Pixels are averaged down to this long side, or up to twice it: in seven of eight photographs the
shares differ by less than 0.02 from those of all pixels, for a tenth of the time and less. The
eighth shows stars, and single bright pixels are averaged away, as they are for who looks at it."""


class DominantColours(Capability[DominantColoursParams, DominantColoursResult]):
    """Finds the few colours that a picture mostly consists of."""

    name = "dominant_colours"
    summary = "The few colours that a picture mostly consists of, and the share of each."
    inputs = (Picture,)
    params = DominantColoursParams
    result = DominantColoursResult

    def prepare(self, inputs: tuple[Picture], params: DominantColoursParams) -> Work:
        """Find the colours; there are no units.

        Raises:
            CorruptMediaError: the picture is broken or cut off.
            UnsupportedMediaError: its pixels are of a kind that has no RGB reading.

        """
        (picture,) = inputs
        image = picture.rgb(LONG_SIDE_PX)  # shared with the nodes beside it: never modified
        small = image.reduce(max(1, max(image.size) // LONG_SIDE_PX))
        pixels = np.asarray(_to_srgb(small, picture.icc_profile)).reshape(-1, 3)
        colours, shares = palette(pixels, params.limit)
        found = tuple(
            DominantColour("#{:02x}{:02x}{:02x}".format(*colour), float(share))
            for colour, share in zip(colours, shares, strict=True)
        )
        return Work((), DominantColoursResult(found))

    def finish(self, work: Work, parts: Sequence[None]) -> DominantColoursResult:
        """Return what ``prepare`` made."""
        del parts
        return work.state

    def sample(self) -> tuple[Picture]:
        """Return a small made-up photo."""
        return (Picture(ImageGenerator(size=(64, 48)).media()),)


def _to_srgb(image: Image.Image, icc_profile: bytes | None) -> Image.Image:
    """Convert from the picture's colour profile, which phones set; a broken one is ignored."""
    if icc_profile is None:
        return image
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc_profile))
        return ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB")) or image
    except (ImageCms.PyCMSError, OSError):
        return image
