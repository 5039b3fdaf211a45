"""EXIF and XMP, carried over with what is no longer true corrected.

Pictures are written upright, so their orientation is 1, and with a size that EXIF repeats. The
thumbnail inside of EXIF is left out: it would show the picture as it was.
"""

import re
from dataclasses import dataclass

from PIL import ExifTags, Image
from PIL.ImageFile import ImageFile

_XMP_ORIENTATION = re.compile(rb"""(tiff:Orientation(?:=["']|>))[1-8]""")

# Tags that say how a TIFF stores its pixels (TIFF 6.0, section 8 and the extensions in part 2), or
# that are carried in another way: XMP (700) and the colour profile (34675).
_STRUCTURE = (
    *(254, 255, 256, 257, 258, 259, 262, 263, 264, 265, 266, 273, 277, 278, 279, 280, 281, 284),
    *(288, 289, 290, 291, 292, 293, 297, 301, 317, 318, 319, 320, 321, 322, 323, 324, 325, 330),
    *(332, 333, 334, 336, 337, 338, 339, 340, 341, 342, 347, 512, 513, 514, 515, 517, 518, 519),
    *(520, 521, 529, 530, 531, 532, 700, 34675),
)


@dataclass(frozen=True, slots=True)
class Metadata:
    """EXIF as Pillow's writers take it, and XMP; empty for none."""

    exif: bytes = b""
    xmp: bytes = b""


def read_metadata(stored: ImageFile, size: tuple[int, int], *, turned: bool) -> Metadata:
    """Read what is to be carried over.

    Args:
        stored: the loaded picture, its file still open.
        size: (width, height) of what will be written, in pixels.
        turned: whether it was turned by the orientation that its metadata gives.

    Returns:
        The metadata; EXIF that is broken is left out.

    """
    xmp = stored.info.get("xmp") or b""
    if turned:
        xmp = _XMP_ORIENTATION.sub(rb"\g<1>1", xmp)
    try:
        exif = _exif(stored.getexif(), size, turned=turned)
    except Exception:  # noqa: BLE001 - broken EXIF raises anything, and must not cost the picture
        exif = b""
    return Metadata(exif, xmp)


def _exif(source: Image.Exif, size: tuple[int, int], *, turned: bool) -> bytes:
    for tag in _STRUCTURE:
        source.pop(tag, None)
    details = source.get_ifd(ExifTags.IFD.Exif) if ExifTags.IFD.Exif in source else {}
    for tag, value in zip(
        (ExifTags.Base.ExifImageWidth, ExifTags.Base.ExifImageHeight), size, strict=True
    ):
        if tag in details:
            details[tag] = value
    if turned:
        source[ExifTags.Base.Orientation] = 1
    return source.tobytes() if len(source) else b""
