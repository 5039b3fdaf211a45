"""What the tests of image conversion share: files with profiles, metadata and frames."""

import io
import struct
from collections.abc import Callable, Sequence

from PIL import Image

from deployments.image_conversion import ConvertedImage
from deployments.runtime.types import Media

FORMATS = ("png", "jpg", "jpeg", "webp", "gif", "bmp", "tiff", "avif", "heic")

Convert = Callable[..., ConvertedImage]
"""``convert(file, **params)``: convert one file."""


def encoded(image: Image.Image, image_format: str, **options: object) -> bytes:
    """Encode with Pillow, or with pillow_heif."""
    buffer = io.BytesIO()
    if image_format == "HEIF":
        from pillow_heif import from_pillow  # noqa: PLC0415 - loads codecs

        from_pillow(image).save(buffer, **options)
    else:
        image.save(buffer, image_format, **options)
    return buffer.getvalue()


def soft(size: tuple[int, int] = (96, 64)) -> Image.Image:
    """Draw a picture of soft colours, different in each corner, which codecs hardly change."""
    corners = Image.new("RGB", (2, 2))
    for point, colour in (
        ((0, 0), (220, 60, 60)),
        ((1, 0), (60, 200, 60)),
        ((0, 1), (60, 60, 210)),
        ((1, 1), (220, 220, 200)),
    ):
        corners.putpixel(point, colour)
    return corners.resize(size, Image.Resampling.BILINEAR)


def clear(size: tuple[int, int] = (96, 64)) -> Image.Image:
    """Draw a picture whose left half is transparent and whose right half is blue."""
    image = Image.new("RGBA", size, (255, 0, 0, 0))
    image.paste((0, 0, 255, 255), (size[0] // 2, 0, *size))
    return image


def animation(
    image_format: str,
    frames: Sequence[Image.Image],
    durations_ms: Sequence[int],
    **options: object,
) -> Media:
    """Encode an animation, without loss where the format can."""
    if image_format == "WEBP":
        options["lossless"] = True
    data = encoded(
        frames[0],
        image_format,
        save_all=True,
        append_images=frames[1:],
        duration=list(durations_ms),
        **options,
    )
    return Media(data, "anim.bin")


def moving(count: int, *, transparent: bool) -> list[Image.Image]:
    """Draw frames of a square that moves, on nothing or on grey."""
    frames: list[Image.Image] = []
    for index in range(count):
        frame = Image.new("RGBA", (48, 32), (0, 0, 0, 0) if transparent else (90, 90, 90, 255))
        frame.paste((255, 40 * index, 0, 255), (6 * index, 4, 6 * index + 16, 24))
        frames.append(frame)
    return frames


def exif_with_thumbnail(orientation: int) -> bytes:
    """Build EXIF as a camera writes it: details, a maker's note and a thumbnail."""
    note, thumbnail = b"NOTE" + bytes(range(60)), encoded(soft((16, 8)), "JPEG")
    start = 8
    first = 2 + 12 * 3 + 4
    details = start + first
    note_at = details + 2 + 12 * 3 + 4
    second = note_at + len(note)
    thumbnail_at = second + 2 + 12 * 2 + 4

    def directory(entries: list[tuple[int, int, int, bytes]], following: int) -> bytes:
        body = b"".join(
            struct.pack("<HHI", tag, kind, count) + value.ljust(4, b"\0")
            for tag, kind, count, value in entries
        )
        return struct.pack("<H", len(entries)) + body + struct.pack("<I", following)

    def short(value: int) -> bytes:
        return struct.pack("<H", value)

    def long(value: int) -> bytes:
        return struct.pack("<I", value)

    return (
        b"Exif\0\0II*\0"
        + long(start)
        + directory(
            [
                (271, 2, 4, b"ACM\0"),
                (274, 3, 1, short(orientation)),
                (34665, 4, 1, long(details)),
            ],
            second,
        )
        + directory(
            [
                (37500, 7, len(note), long(note_at)),
                (40962, 4, 1, long(96)),
                (40963, 4, 1, long(64)),
            ],
            0,
        )
        + note
        + directory([(513, 4, 1, long(thumbnail_at)), (514, 4, 1, long(len(thumbnail)))], 0)
        + thumbnail
    )


def xmp(orientation: int) -> bytes:
    """Build an XMP packet that gives the orientation in both ways that there are."""
    return (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="%d">'
        b"<tiff:Orientation>%d</tiff:Orientation><dc:title>Sea</dc:title></rdf:Description>"
        b"</x:xmpmeta>"
    ) % (orientation, orientation)


def linear_grey_profile() -> bytes:
    """Build a profile for grey whose numbers are light: 55 of 255 is what sRGB calls 128."""
    return _profile(b"mntr", b"GRAY", b"XYZ ", {b"wtpt": _xyz(0.9642, 1, 0.8249), b"kTRC": _LINEAR})


def swapped_rgb_profile() -> bytes:
    """Build a profile whose red is sRGB's green and the other way round, and linear."""
    return _profile(
        b"mntr",
        b"RGB ",
        b"XYZ ",
        {
            b"wtpt": _xyz(0.9642, 1, 0.8249),
            b"rXYZ": _xyz(0.3851, 0.7169, 0.0971),
            b"gXYZ": _xyz(0.4360, 0.2225, 0.0139),
            b"bXYZ": _xyz(0.1431, 0.0606, 0.7141),
            b"rTRC": _LINEAR,
            b"gTRC": _LINEAR,
            b"bTRC": _LINEAR,
        },
    )


def red_cyan_profile() -> bytes:
    """Build a profile for CMYK whose cyan ink is red, and whose magenta and yellow are nothing."""
    white, red, black = bytes([255, 128, 128]), bytes([136, 208, 195]), bytes([0, 128, 128])
    identity = b"".join(struct.pack(">i", 65536 * (index % 4 == 0)) for index in range(9))
    ramp = bytes(range(256))
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + identity + ramp * 4
    table += (white + black) * 4 + (red + black) * 4 + ramp * 3
    return _profile(b"prtr", b"CMYK", b"Lab ", {b"A2B0": table})


_LINEAR = b"curv" + bytes(4) + struct.pack(">IH", 1, 256) + bytes(2)


def _xyz(x: float, y: float, z: float) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(65536 * value) for value in (x, y, z)))


def _profile(kind: bytes, space: bytes, connection: bytes, tags: dict[bytes, bytes]) -> bytes:
    """Put an ICC profile of version 2 together."""
    start = 128 + 4 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for name, tag in tags.items():
        table += name + struct.pack(">II", start + len(body), len(tag))
        body += tag.ljust(-(-len(tag) // 4) * 4, b"\0")
    header = struct.pack(">I4xI", start + len(body), 0x02400000) + kind + space + connection
    header = (header + struct.pack(">6H", 2024, 1, 1, 0, 0, 0) + b"acsp").ljust(68, b"\0")
    header += _xyz(0.9642, 1, 0.8249)[8:]
    return header.ljust(128, b"\0") + table + body
