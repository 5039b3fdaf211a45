"""Writing pictures in each format."""

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo

from deployments.image_conversion.algo.animation import (
    GIF_STEP_MS,
    gif_loop,
    rounded_times,
    to_palette,
)
from deployments.image_conversion.algo.metadata import Metadata
from deployments.image_conversion.algo.targets import Target
from deployments.runtime.errors import InvalidParameterError

# The codecs' settings for speed, measured on photographs with one thread. Against the defaults:
_AVIF_SPEED = 8  # of 10: a third of the time, 0.5 dB worse, files as large
_X265_PRESET = "ultrafast"  # a seventh of the time, 0.1 dB worse, files as large
_PNG_LEVEL = 4  # of 9: less than half the time, 4 % larger

_HEIC_TILE_PX = 512  # Apple's
_HEIC_TILES_FROM_PX = 16_000_000
"""From so many pixels on a HEIC is written in tiles, as phones do: 48 megapixels then take 260 MB
and not 900."""

# Of the VP8X chunk, which is an animation's first: WebP container specification, "Extended file".
_WEBP_FLAGS_AT, _WEBP_ALPHA = 20, 0x10

_JPEG_SEGMENT_BYTES = 65_500  # 65,533 less the names that begin EXIF and XMP segments


@dataclass(frozen=True, slots=True)
class Pictures:
    """What is to be written: one picture, or the frames of an animation.

    All have one size and mode. ``durations_ms`` has one number for each; the animation plays
    ``plays`` times, 0 for ever.
    """

    images: Sequence[Image.Image]
    durations_ms: Sequence[float] = (0.0,)
    plays: int = 0
    profile: bytes | None = None
    metadata: Metadata = field(default_factory=Metadata)


def write(  # noqa: PLR0913 - independent settings
    pictures: Pictures,
    target: Target,
    *,
    quality: int,
    lossless: bool,
    background: tuple[int, int, int],
    threads: int,
) -> bytes:
    """Write pictures whose mode is among the target's.

    Args:
        pictures: what to write.
        target: the format; must be one that can be animated where there are several pictures.
        quality: 1 to 100, for formats with losses.
        lossless: for WebP.
        background: RGB that half transparent parts of a GIF are shown on.
        threads: how many an encoder may use.

    Returns:
        The bytes of the file.

    Raises:
        InvalidParameterError: this machine can't write the format.

    """
    images = list(pictures.images)
    if target.writer == "GIF" and images[0].mode == "RGBA":
        images = [to_palette(image, background) for image in images]
    for image in images:  # else writers take from it what is not asked for
        transparency = image.info.get("transparency") if image.mode == "P" else None
        image.info = {} if transparency is None else {"transparency": transparency}
    if target.writer == "HEIF":
        return _write_heic(images[0], pictures, quality, threads)
    options: dict[str, Any] = {
        "JPEG": {"quality": quality},
        "WEBP": {"quality": quality, "lossless": lossless},
        "AVIF": {"quality": quality, "speed": _AVIF_SPEED, "max_threads": threads},
        "PNG": {"compress_level": _PNG_LEVEL},
    }.get(target.writer, {})
    if target.has_profile:
        options["icc_profile"] = pictures.profile
    if target.has_metadata:
        options |= _metadata_options(pictures.metadata, target)
    if len(images) > 1:
        options |= _animation_options(pictures, images, target)
    buffer = io.BytesIO()
    images[0].save(buffer, target.writer, **options)
    if target.writer == "WEBP" and len(images) > 1 and images[0].mode == "RGBA":
        return _marked_as_transparent(buffer.getvalue())
    return buffer.getvalue()


def _metadata_options(metadata: Metadata, target: Target) -> dict[str, Any]:
    if target.writer == "PNG":
        text = PngInfo()
        if metadata.xmp:
            text.add_itxt("XML:com.adobe.xmp", metadata.xmp.decode("utf-8", "replace"))
        return {"exif": metadata.exif, "pnginfo": text}
    if target.writer == "TIFF":
        return _tiff_options(metadata)
    if target.writer == "JPEG":  # what does not fit into a segment has no place
        found = {"exif": metadata.exif, "xmp": metadata.xmp}
        return {key: value for key, value in found.items() if len(value) <= _JPEG_SEGMENT_BYTES}
    return {"exif": metadata.exif, "xmp": metadata.xmp}


def _tiff_options(metadata: Metadata) -> dict[str, Any]:
    exif = Image.Exif()
    if metadata.exif:
        exif.load(metadata.exif)
    if metadata.xmp:
        exif[ExifTags.Base.XMLPacket] = metadata.xmp
    # libtiff, which compresses, can't write the directories inside of EXIF, nor values that are
    # out of range; Pillow itself can.
    return {"exif": exif, "compression": "raw" if metadata.exif else "tiff_adobe_deflate"}


def _animation_options(
    pictures: Pictures, images: Sequence[Image.Image], target: Target
) -> dict[str, Any]:
    options: dict[str, Any] = {
        "save_all": True,
        "append_images": images[1:],
        "duration": rounded_times(pictures.durations_ms, 1),
        "loop": pictures.plays,
    }
    if target.writer == "GIF":
        options["duration"] = rounded_times(pictures.durations_ms, GIF_STEP_MS)
        options["loop"] = gif_loop(pictures.plays)
        # Frames with transparent parts must not be drawn over the ones before them.
        options["disposal"] = 2 if images[0].mode == "P" else 0
    return options


def _marked_as_transparent(webp: bytes) -> bytes:
    """Say in an animation's header that it is transparent.

    libwebp crops frames to what changes, and does not say so when all that is left is opaque;
    readers then take what no frame covers for black.
    """
    header = bytearray(webp)
    header[_WEBP_FLAGS_AT] |= _WEBP_ALPHA
    return bytes(header)


def _write_heic(image: Image.Image, pictures: Pictures, quality: int, threads: int) -> bytes:
    # Imported when the first HEIC is asked for: it loads libheif with its codecs.
    from pillow_heif import from_pillow, libheif_info  # noqa: PLC0415

    if not libheif_info()["HEIF"]:
        raise InvalidParameterError(
            "format: heic can't be written here, as the installed pillow_heif has no HEVC encoder",
        )
    image.info = {"icc_profile": pictures.profile} if pictures.profile else {}
    buffer = io.BytesIO()
    from_pillow(image).save(
        buffer,
        quality=quality,
        exif=pictures.metadata.exif or None,
        xmp=pictures.metadata.xmp or None,
        tile_size=_HEIC_TILE_PX if image.width * image.height > _HEIC_TILES_FROM_PX else 0,
        enc_params={"preset": _X265_PRESET, "x265:pools": str(threads)},
    )
    return buffer.getvalue()
