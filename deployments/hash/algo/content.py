"""A hash of what is shown, that metadata does not change.

The pictures of a file are written one after another as: its time in milliseconds, width and
height, each as eight bytes, big-endian, then the pixels. Sizes come before pixels, so that two
shapes with the same pixels in a row have two hashes.
"""

import hashlib
import struct
from collections.abc import Iterable

from PIL import Image

_STRIP_BYTES = 1 << 20  # pixels are copied out of Pillow piece by piece, not a whole photo at once


def content_hash(pictures: Iterable[tuple[int, Image.Image]]) -> str:
    """Hash pictures, each with its time in milliseconds, RGB and upright.

    Returns:
        The sha512 in hexadecimal.

    """
    hasher = hashlib.sha512()
    for time_ms, picture in pictures:
        width, height = picture.size
        hasher.update(struct.pack(">qqq", time_ms, width, height))
        rows = max(1, _STRIP_BYTES // (3 * width))
        for top in range(0, height, rows):
            strip = picture.crop((0, top, width, min(top + rows, height)))
            hasher.update(strip.tobytes())
    return hasher.hexdigest()
