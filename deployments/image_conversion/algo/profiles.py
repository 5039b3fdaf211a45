"""ICC colour profiles: kept where they fit what is written, else applied to the pixels.

A profile describes one kind of numbers: grey, RGB or CMYK. Beside pixels of another kind it would
make programs show wrong colours, or refuse the file.
"""

import io

from PIL import Image, ImageCms

from deployments.runtime.pixels import to_rgb

_SPACE = slice(16, 20)  # ICC.1:2022, 7.2: where the header names the colour space of the data
_RGB, _GREY, _CMYK = b"RGB ", b"GRAY", b"CMYK"


def fit_profile(
    image: Image.Image, profile: bytes | None, mode: str, *, keeps: bool
) -> tuple[Image.Image, bytes | None]:
    """Decide what becomes of a profile.

    Args:
        image: of a simple mode, as ``pixels.simplify`` makes it.
        profile: the image's, or None.
        mode: the one that will be written.
        keeps: whether the format that is written holds profiles.

    Returns:
        The image and the profile to write with it. Where the profile can't be kept the image is
        in sRGB, which is what programs take pixels without a profile for, and of mode RGB or
        RGBA. A profile that is broken, or that does not belong to the pixels, is dropped.

    """
    if profile is None:
        return image, None
    described, stored, written = profile[_SPACE], _space(image.mode), _space(mode)
    # Grey with a profile of colours is common: as red = green = blue it is right.
    fits = described == stored or (described == _RGB and stored == _GREY)
    if not fits:
        return image, None
    if keeps and described == written:
        return image, profile
    return _to_srgb(image, profile), None


def _space(mode: str) -> bytes:
    return {"RGB": _RGB, "RGBA": _RGB, "CMYK": _CMYK}.get(mode, _GREY)


def _to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    alpha = image.getchannel("A") if image.mode.endswith("A") else None
    if image.mode == "I;16":  # Pillow would cut it off at 255
        image = to_rgb(image)
    pixels = image.convert({_RGB: "RGB", _GREY: "L", _CMYK: "CMYK"}[profile[_SPACE]])
    try:
        converted = ImageCms.profileToProfile(
            pixels,
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            outputMode="RGB",
        )
    except (ImageCms.PyCMSError, OSError):  # a broken profile must not cost the picture
        return image
    assert converted is not None, "not in place"  # noqa: S101 - narrows the type
    if alpha is not None:
        converted.putalpha(alpha)
    return converted
