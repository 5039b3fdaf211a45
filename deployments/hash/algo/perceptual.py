"""Hashes of how a picture looks, which stay near each other where pictures look alike.

The hashes are those of the library ImageHash (BSD-2-Clause), so they can be compared with
those of other programs that use it. It is imported when the first picture comes: it needs SciPy,
which takes a quarter of a second and 25 MB.
"""

from dataclasses import dataclass

from PIL import Image


@dataclass(frozen=True, slots=True)
class PerceptualHashes:
    """Two hashes of one picture, 64 bits each, as 16 hexadecimal digits."""

    phash: str
    dhash: str


def perceptual_hashes(picture: Image.Image) -> PerceptualHashes:
    """Hash how an RGB picture looks.

    ``phash`` are the signs of its lowest frequencies, ``dhash`` whether each of 8 × 8 parts is
    darker than the part to its right.
    """
    import imagehash  # noqa: PLC0415 - see above

    grey = picture.convert("L")
    return PerceptualHashes(str(imagehash.phash(grey)), str(imagehash.dhash(grey)))
