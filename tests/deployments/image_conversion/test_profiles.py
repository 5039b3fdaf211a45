"""Colour profiles: kept where they fit, else applied."""

import pytest
from PIL import Image, ImageCms

from deployments.image_conversion.algo.profiles import fit_profile
from tests.deployments.image_conversion.support import (
    linear_grey_profile,
    red_cyan_profile,
    swapped_rgb_profile,
)

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
GREY, RGB, CMYK = linear_grey_profile(), swapped_rgb_profile(), red_cyan_profile()
BROKEN = RGB[:132]


def test_none() -> None:
    """No profile changes nothing."""
    image = Image.new("CMYK", (1, 1))
    assert (image, None) == fit_profile(image, None, "RGB", keeps=True)


@pytest.mark.parametrize(
    ("stored", "profile", "written"),
    [
        ("RGB", SRGB, "RGB"),
        ("RGBA", RGB, "RGB"),
        ("RGBA", RGB, "RGBA"),
        ("L", GREY, "L"),
        ("LA", GREY, "LA"),
        ("I;16", GREY, "I;16"),
        ("I;16", GREY, "L"),
        ("L", RGB, "RGB"),
    ],
)
def test_kept(stored: str, profile: bytes, written: str) -> None:
    """A profile of the kind of pixels that are written stays, and the pixels too."""
    image = Image.new(stored, (1, 1))
    assert (image, profile) == fit_profile(image, profile, written, keeps=True)


@pytest.mark.parametrize(
    ("stored", "profile", "written"),
    [
        ("RGB", GREY, "RGB"),
        ("RGB", CMYK, "RGB"),
        ("CMYK", RGB, "RGB"),
        ("RGB", b"", "RGB"),
        ("RGB", b"no profile at all, not a bit", "RGB"),
    ],
)
def test_dropped(stored: str, profile: bytes, written: str) -> None:
    """A profile of another kind than the pixels goes, and the pixels stay."""
    image = Image.new(stored, (1, 1))
    assert (image, None) == fit_profile(image, profile, written, keeps=True)


@pytest.mark.parametrize(
    ("stored", "colour", "profile", "written", "keeps", "expected"),
    [
        ("CMYK", (255, 0, 0, 0), CMYK, "RGB", True, (255, 0, 0)),
        ("CMYK", (0, 0, 0, 0), CMYK, "RGB", False, (255, 255, 255)),
        ("CMYK", (0, 0, 0, 255), CMYK, "RGB", False, (0, 0, 0)),
        ("L", 55, GREY, "RGB", True, (128, 128, 128)),
        ("L", 55, GREY, "L", False, (128, 128, 128)),
        ("LA", (55, 7), GREY, "RGBA", True, (128, 128, 128, 7)),
        ("I;16", 55 * 257, GREY, "RGB", True, (128, 128, 128)),
        ("RGB", (255, 0, 0), RGB, "RGB", False, (0, 255, 0)),
        ("RGBA", (255, 0, 0, 7), RGB, "RGBA", False, (0, 255, 0, 7)),
        ("L", 55, RGB, "L", True, (128, 128, 128)),
    ],
)
def test_applied(  # noqa: PLR0913 - the columns of the table
    *, stored: str, colour: object, profile: bytes, written: str, keeps: bool, expected: object
) -> None:
    """A profile that can't be kept is applied: what is written is sRGB."""
    image = Image.new(stored, (1, 1), colour)  # pyright: ignore[reportArgumentType]
    result, kept = fit_profile(image, profile, written, keeps=keeps)
    assert kept is None
    assert expected == pytest.approx(result.getpixel((0, 0)), abs=10)


def test_broken() -> None:
    """A profile that can't be read is dropped, and the pixels stay."""
    image = Image.new("RGB", (1, 1), (255, 0, 0))
    assert (image, None) == fit_profile(image, BROKEN, "RGB", keeps=False)
