"""A hash of what is shown."""

import hashlib
import struct

import numpy as np
import pytest
from PIL import Image

from deployments.hash.algo.content import content_hash


def grey(width: int, height: int) -> Image.Image:
    """Make a picture of one grey."""
    return Image.new("RGB", (width, height), (7, 7, 7))


def test_no_pictures() -> None:
    """Nothing shown has the hash of nothing."""
    assert hashlib.sha512().hexdigest() == content_hash([])


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (40, 30), (700, 1500)])
def test_serialisation(size: tuple[int, int]) -> None:
    """Time, width and height come as eight bytes each, then all pixels, whatever their number."""
    pixels = np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    expected = hashlib.sha512(struct.pack(">qqq", 0, *size) + pixels.tobytes()).hexdigest()
    assert expected == content_hash([(0, Image.fromarray(pixels))])


def test_differences() -> None:
    """Shape, pixels, time, order and number of pictures all count."""
    other = grey(6, 2)
    other.putpixel((0, 0), (7, 7, 8))
    shown = [
        [(0, grey(6, 2))],
        [(0, grey(2, 6))],
        [(0, grey(4, 3))],
        [(1, grey(6, 2))],
        [(0, other)],
        [(0, grey(6, 2)), (1, other)],
        [(0, other), (1, grey(6, 2))],
    ]
    assert len(shown) == len({content_hash(pictures) for pictures in shown})
