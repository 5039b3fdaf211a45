"""What each format that can be written is able to hold."""

from dataclasses import dataclass

_NO_LIMIT_PX = 2**31 - 1
_ENCODER_MAX_PIXELS = 50_000_000
"""For codecs made for video, which take about 22 bytes a pixel: 1.1 GB."""


@dataclass(frozen=True, slots=True)
class Target:
    """One format.

    Attributes:
        name: what messages call it.
        extension: of file names, with its dot.
        media_type: its MIME type.
        writer: Pillow's name for it.
        modes: the Pillow modes that are written; those with an ``A`` are transparent.
        animated: whether it can be an animation.
        has_profile: whether it holds an ICC profile.
        has_metadata: whether it holds EXIF and XMP.
        max_side_px: the most pixels of one side.
        max_pixels: the most pixels of one frame.

    """

    name: str
    extension: str
    media_type: str
    writer: str
    modes: frozenset[str]
    animated: bool = False
    has_profile: bool = True
    has_metadata: bool = True
    max_side_px: int = _NO_LIMIT_PX
    max_pixels: int = _NO_LIMIT_PX


_DEEP = frozenset({"1", "L", "LA", "I;16", "RGB", "RGBA"})
_COLOUR = frozenset({"RGB", "RGBA"})

_JPEG = Target(
    name="JPEG",
    extension=".jpg",
    media_type="image/jpeg",
    writer="JPEG",
    modes=frozenset({"L", "RGB"}),
    max_side_px=65_500,  # libjpeg's JPEG_MAX_DIMENSION
)

TARGETS: dict[str, Target] = {
    "png": Target("PNG", ".png", "image/png", "PNG", _DEEP, animated=True),
    "jpg": _JPEG,
    "jpeg": _JPEG,
    "webp": Target(
        name="WebP",
        extension=".webp",
        media_type="image/webp",
        writer="WEBP",
        modes=_COLOUR,
        animated=True,
        max_side_px=16_383,  # 14 bits in the file
    ),
    "gif": Target(
        name="GIF",
        extension=".gif",
        media_type="image/gif",
        writer="GIF",
        modes=frozenset({"L", "RGB", "RGBA"}),
        animated=True,
        has_profile=False,
        has_metadata=False,
        max_side_px=65_535,  # 16 bits in the file
    ),
    "bmp": Target(
        name="BMP",
        extension=".bmp",
        media_type="image/bmp",
        writer="BMP",
        modes=frozenset({"1", "L", "RGB"}),  # few readers look at the transparency of a BMP
        has_profile=False,
        has_metadata=False,
    ),
    "tiff": Target("TIFF", ".tiff", "image/tiff", "TIFF", _DEEP),
    "avif": Target(
        name="AVIF",
        extension=".avif",
        media_type="image/avif",
        writer="AVIF",
        modes=_COLOUR,
        animated=True,
        max_side_px=32_768,  # what libavif reads by default
        max_pixels=_ENCODER_MAX_PIXELS,
    ),
    "heic": Target(
        name="HEIC",
        extension=".heic",
        media_type="image/heic",
        writer="HEIF",
        modes=_COLOUR,  # grey HEVC is of a profile that few decoders know
        max_side_px=32_768,  # what libheif reads by default
        max_pixels=_ENCODER_MAX_PIXELS,
    ),
}
"""Formats by the names that requests use."""
