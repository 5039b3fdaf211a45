"""Files with known metadata, for the tests of the metadata reader."""

import struct
import subprocess
import tempfile
import zlib
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Literal

from deployments.runtime.random_media import ExifFields, ImageGenerator, VideoGenerator
from deployments.runtime.random_media.videos import Container
from deployments.runtime.types import Media

TAKEN_AT = datetime(2024, 5, 1, 10, 20, 30, 500_000, timezone(timedelta(hours=2)))

FIELDS = ExifFields(
    orientation=6,
    taken_at=TAKEN_AT,
    latitude=-33.5,
    longitude=-70.25,
    altitude_m=-12.5,
    make="Acme",
    model="A1",
)

RawFormat = Literal["dng", "cr2", "nef"]


def photo(image_format: str = "JPEG", fields: ExifFields | None = FIELDS, number: int = 0) -> Media:
    """A photo of 64 x 48 pixels."""
    return ImageGenerator(size=(64, 48), format=image_format, exif=fields).media(number)


def video(container: Container = "mp4", rotation_degrees: int = 0) -> Media:
    """A video of 64 x 48 pixels that takes 0.4 s."""
    return VideoGenerator(
        container=container,
        size=(64, 48),
        duration_s=0.4,
        rotation_degrees=rotation_degrees,
    ).media()


def written(media: Media, *arguments: str) -> Media:
    """The file with other metadata, written by the real ExifTool to a copy."""
    name = media.filename or "photo.jpg"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(media.data)
        command = ["exiftool", "-config", "", "-q", "-m", "-overwrite_original", *arguments]
        subprocess.run([*command, str(path)], check=True, capture_output=True)
        return Media(path.read_bytes(), name)


def raw_photo(raw_format: RawFormat) -> Media:
    """A camera's raw file without pixels: a preview of 160 x 120 and a sensor of 4000 x 3000."""
    # TIFF 6.0 entries: tag, type (2 text, 1 byte, 3 short, 4 long), count, value or offset.
    make = {"dng": b"Acme\0", "cr2": b"Canon\0", "nef": b"NIKON CORPORATION\0"}[raw_format]
    header = b"II*\0" + struct.pack("<I", 16) + (b"CR\2\0" if raw_format == "cr2" else b"\0" * 4)
    header = header.ljust(16, b"\0")
    count = 9 if raw_format == "dng" else 8
    make_at = 16 + 2 + 12 * count + 4
    exif_at = make_at + len(make) + len(make) % 2
    sensor_at = exif_at + 2 + 12 * 2 + 4 + 8
    first = [
        (254, 4, 1, 1),
        (256, 4, 1, 160),
        (257, 4, 1, 120),
        (262, 3, 1, 2),
        (271, 2, len(make), make_at),
        (274, 3, 1, 8),
        (330, 4, 1, sensor_at),
        (34665, 4, 1, exif_at),
    ]
    if raw_format == "dng":
        first.append((50706, 1, 4, int.from_bytes(b"\1\4\0\0", "little")))
    exif = [(33437, 5, 1, exif_at + 2 + 12 * 2 + 4), (34855, 3, 1, 400)]
    sensor = [(254, 4, 1, 0), (256, 4, 1, 4000), (257, 4, 1, 3000), (262, 3, 1, 32803)]
    data = header + _directory(first) + make.ljust(exif_at - make_at, b"\0")
    data += _directory(exif) + struct.pack("<II", 28, 10) + _directory(sensor)
    return Media(data, f"raw.{raw_format}")


def _directory(entries: list[tuple[int, int, int, int]]) -> bytes:
    packed = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return struct.pack("<H", len(entries)) + packed + struct.pack("<I", 0)


def png_with_text(text_bytes: int) -> Media:
    """A PNG of some KB whose comment unpacks to so many bytes."""
    plain = photo("PNG", None).data
    header_ends_at = 33
    packed = b"Comment\0\0" + zlib.compress(b"A" * text_bytes, 1)
    body = b"zTXt" + packed
    chunk = struct.pack(">I", len(packed)) + body + struct.pack(">I", zlib.crc32(body))
    return Media(plain[:header_ends_at] + chunk + plain[header_ends_at:], "text.png")
