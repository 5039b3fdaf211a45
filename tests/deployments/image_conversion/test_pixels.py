"""Pixels brought to a mode that a format can hold."""

import io

import numpy as np
import pytest
from PIL import Image

from deployments.image_conversion.algo.pixels import best_mode, common_mode, simplify, to_mode
from deployments.image_conversion.algo.targets import TARGETS

SIMPLE = ("1", "L", "LA", "I;16", "RGB", "RGBA", "CMYK")


@pytest.mark.parametrize(
    ("mode", "colour", "expected_mode", "expected"),
    [
        ("1", 255, "1", 255),
        ("L", 70, "L", 70),
        ("LA", (70, 9), "LA", (70, 9)),
        ("I;16", 40000, "I;16", 40000),
        ("I", 65535, "L", 255),
        ("F", 0.5, "L", 128),
        ("RGB", (1, 2, 3), "RGB", (1, 2, 3)),
        ("RGBA", (1, 2, 3, 4), "RGBA", (1, 2, 3, 4)),
        ("RGBX", (1, 2, 3, 4), "RGB", (1, 2, 3)),
        ("RGBa", (0, 0, 0, 0), "RGBA", (0, 0, 0, 0)),
        ("CMYK", (1, 2, 3, 4), "CMYK", (1, 2, 3, 4)),
        ("YCbCr", (128, 128, 128), "RGB", (128, 128, 128)),
        ("LAB", (255, 128, 128), "RGB", (255, 255, 255)),
        ("HSV", (0, 0, 90), "RGB", (90, 90, 90)),
    ],
)
def test_simplify(mode: str, colour: object, expected_mode: str, expected: object) -> None:
    """Each mode that readers give becomes a simple one, and keeps its colour."""
    image = simplify(Image.new(mode, (2, 2), colour))  # pyright: ignore[reportArgumentType]
    assert expected_mode == image.mode
    assert expected == pytest.approx(image.getpixel((0, 0)), abs=1)


def test_simplify_big_endian() -> None:
    """16 bits in the other byte order keep their value."""
    image = Image.fromarray(np.array([[258]], np.uint16).astype(">u2"))
    assert "I;16B" == image.mode
    assert ("I;16", 258) == (simplify(image).mode, simplify(image).getpixel((0, 0)))


@pytest.mark.parametrize(
    ("mode", "key", "expected"), [("P", 0, "RGBA"), ("L", 0, "LA"), ("RGB", (0, 0, 0), "RGBA")]
)
def test_simplify_transparent_colour(mode: str, key: object, expected: str) -> None:
    """A colour that is declared transparent becomes transparency."""
    image = Image.new(mode, (1, 1))
    image.info["transparency"] = key
    simple = simplify(image)
    assert expected == simple.mode
    assert 0 == simple.getchannel("A").getpixel((0, 0))


@pytest.mark.parametrize("mode", SIMPLE)
@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_best_mode(mode: str, target: object) -> None:
    """Every simple mode has one in every format, transparent where both can be, and writable."""
    modes = target.modes  # pyright: ignore[reportAttributeAccessIssue]
    best = best_mode(mode, modes)
    assert best in modes
    assert ("RGBA" in modes and mode.endswith("A")) == best.endswith("A")
    image = to_mode(Image.new(mode, (4, 4)), best, (1, 2, 3))
    buffer = io.BytesIO()
    if target.writer != "HEIF":  # pyright: ignore[reportAttributeAccessIssue]
        image.save(buffer, target.writer)  # pyright: ignore[reportAttributeAccessIssue]
        assert buffer.tell() > 0
    assert best == image.mode


@pytest.mark.parametrize(
    ("modes", "expected"),
    [
        ({"L"}, "L"),
        ({"I;16"}, "I;16"),
        ({"L", "RGB"}, "RGB"),
        ({"1", "LA"}, "RGBA"),
        ({"RGB", "RGBA"}, "RGBA"),
    ],
)
def test_common_mode(modes: set[str], expected: str) -> None:
    """Frames of several modes get one that holds them all."""
    assert expected == common_mode(modes)


@pytest.mark.parametrize(
    ("mode", "colour", "target", "expected"),
    [
        ("I;16", 65535, "L", 255),
        ("I;16", 32896, "RGB", (128, 128, 128)),
        ("LA", (70, 0), "RGB", (10, 20, 30)),
        ("LA", (70, 255), "RGB", (70, 70, 70)),
        ("LA", (70, 9), "RGBA", (70, 70, 70, 9)),
        ("RGBA", (200, 0, 0, 0), "RGB", (10, 20, 30)),
        ("RGBA", (200, 0, 0, 51), "RGB", (48, 16, 24)),
        ("RGB", (9, 8, 7), "RGBA", (9, 8, 7, 255)),
        ("RGB", (9, 8, 7), "RGB", (9, 8, 7)),
        ("1", 255, "RGB", (255, 255, 255)),
        ("CMYK", (0, 255, 255, 0), "RGB", (255, 0, 0)),
    ],
)
def test_to_mode(mode: str, colour: object, target: str, expected: object) -> None:
    """Colours stay, and transparent parts show the background where there is none."""
    image = to_mode(Image.new(mode, (2, 2), colour), target, (10, 20, 30))  # pyright: ignore[reportArgumentType]
    assert target == image.mode
    assert expected == pytest.approx(image.getpixel((1, 1)), abs=1)
