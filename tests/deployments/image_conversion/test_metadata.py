"""EXIF, XMP and colour profiles through the conversion."""

import io
import struct

import numpy as np
import pytest
from PIL import ExifTags, Image

from deployments.image_conversion import ConvertedImage
from deployments.runtime.picture import Picture
from deployments.runtime.random_media import ExifFields
from deployments.runtime.types import Media
from tests.deployments.image_conversion.support import (
    Convert,
    encoded,
    exif_with_thumbnail,
    linear_grey_profile,
    red_cyan_profile,
    soft,
    swapped_rgb_profile,
    xmp,
)

CARRIERS = ("JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF")
WITH_METADATA = ("jpg", "png", "webp", "tiff", "avif", "heic")
WITHOUT_METADATA = ("gif", "bmp")


class Stored:
    """What a converted file says of itself."""

    def __init__(self, result: ConvertedImage) -> None:
        """Read it all."""
        with Picture(Media(result.data)).stored() as stored:
            stored.load()
            self.exif = stored.getexif()
            self.details = self.exif.get_ifd(ExifTags.IFD.Exif)
            self.gps = self.exif.get_ifd(ExifTags.IFD.GPSInfo)
            self.thumbnail = self.exif.get_ifd(ExifTags.IFD.IFD1)
            self.xmp: bytes = stored.info.get("xmp") or b""
            self.profile: bytes | None = stored.info.get("icc_profile")


def carrier(image_format: str, exif: bytes = b"", packet: bytes = b"") -> Media:
    """Encode a picture with metadata."""
    image = soft()
    options: dict[str, object] = {"exif": exif, "xmp": packet}
    if image_format == "PNG" and packet:
        from PIL.PngImagePlugin import PngInfo  # noqa: PLC0415 - only here

        text = PngInfo()
        text.add_itxt("XML:com.adobe.xmp", packet.decode())
        options = {"exif": exif, "pnginfo": text}
    if image_format == "TIFF":
        tags = Image.Exif()
        tags.load(exif)
        if packet:
            tags[ExifTags.Base.XMLPacket] = packet
        options = {"exif": tags}
    if image_format == "HEIF":
        options = {key: value or None for key, value in options.items()}
    return Media(encoded(image, image_format, **options), "photo.bin")


@pytest.mark.parametrize("target", WITH_METADATA)
@pytest.mark.parametrize("source", CARRIERS)
def test_kept(convert: Convert, source: str, target: str) -> None:
    """Camera, place and title get from every format that has them to every other."""
    exif = ExifFields(make="ACME", model="One", latitude=-1.5, longitude=2.5, altitude_m=30)
    stored = Stored(convert(carrier(source, exif.to_bytes(), xmp(1)), format=target))
    assert ("ACME", "One") == (stored.exif[271], stored.exif[272])
    assert ("S", (1.0, 30.0, 0.0), 30.0) == tuple(
        stored.gps[tag]
        for tag in (
            ExifTags.GPS.GPSLatitudeRef,
            ExifTags.GPS.GPSLatitude,
            ExifTags.GPS.GPSAltitude,
        )
    )
    assert b"<dc:title>Sea</dc:title>" in stored.xmp


@pytest.mark.parametrize("target", WITH_METADATA)
@pytest.mark.parametrize("source", CARRIERS)
def test_turned(convert: Convert, source: str, target: str) -> None:
    """Pixels are turned upright, and nothing says that they must be turned any more."""
    media = carrier(source, ExifFields(orientation=6).to_bytes(), xmp(6))
    result = convert(media, format=target)
    assert (64, 96) == (result.width, result.height) == Picture(Media(result.data)).size
    stored = Stored(result)
    assert 1 == stored.exif.get(ExifTags.Base.Orientation, 1)
    assert b"6" not in stored.xmp
    corner = Picture(Media(result.data)).rgb().getpixel((60, 3))
    assert (220, 60, 60) == pytest.approx(corner, abs=15)


@pytest.mark.parametrize("target", WITHOUT_METADATA)
def test_no_place_for_it(convert: Convert, target: str) -> None:
    """GIF and BMP have no place for metadata, and the picture is turned all the same."""
    media = carrier("JPEG", ExifFields(orientation=6, make="ACME").to_bytes(), xmp(6))
    result = convert(media, format=target)
    assert (64, 96) == (result.width, result.height)
    assert b"ACME" not in result.data
    assert b"Sea" not in result.data


@pytest.mark.parametrize("target", WITH_METADATA)
@pytest.mark.parametrize("source", CARRIERS)
def test_stripped(convert: Convert, source: str, target: str) -> None:
    """Stripped files hold nothing of it, and are turned upright."""
    exif = ExifFields(orientation=6, make="ACME", latitude=1.5, longitude=2.5)
    media = carrier(source, exif.to_bytes(), xmp(6))
    result = convert(media, format=target, metadata="strip")
    stored = Stored(result)
    assert ({}, b"") == (dict(stored.gps), stored.xmp)
    assert 271 not in stored.exif
    assert (64, 96) == (result.width, result.height)
    for word in (b"ACME", b"Sea"):
        assert word not in result.data


@pytest.mark.parametrize("target", WITH_METADATA)
def test_camera_file(convert: Convert, target: str) -> None:
    """Maker's notes stay byte by byte, the size follows the picture, the thumbnail goes."""
    media = carrier("JPEG", exif_with_thumbnail(6))
    with Picture(media).stored() as before:
        assert before.getexif().get_ifd(ExifTags.IFD.IFD1)
    result = convert(media, format=target)
    stored = Stored(result)
    assert {} == dict(stored.thumbnail)
    assert (64, 96) == (stored.details[40962], stored.details[40963])
    assert b"NOTE" + bytes(range(60)) == stored.details[37500]
    assert "ACM" == stored.exif[271]


def test_structure_of_a_tiff_is_left_behind(convert: Convert) -> None:
    """What a TIFF says of its strips is not taken for metadata of a photo."""
    tags = Image.Exif()
    tags[ExifTags.Base.ImageDescription] = "a sea"
    media = Media(encoded(soft(), "TIFF", exif=tags, compression="tiff_lzw"))
    stored = Stored(convert(media, format="jpg"))
    assert {ExifTags.Base.ImageDescription: "a sea"} == dict(stored.exif)


@pytest.mark.parametrize("target", ["tiff", "png"])
def test_tiff_to_others(convert: Convert, target: str) -> None:
    """A compressed TIFF is read and written."""
    media = Media(encoded(soft(), "TIFF", compression="tiff_lzw"))
    result = convert(media, format=target)
    assert len(result.data) < 96 * 64 * 3
    assert Picture(media).rgb().tobytes() == Picture(Media(result.data)).rgb().tobytes()


@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\x00\x00garbage that is no TIFF",
        b"Exif\x00\x00II*\x00\xff\xff\xff\x7f",
        b"Exif\x00\x00II*\x00\x08\x00\x00\x00\xff\xff" + b"\xee" * 40,
        b"Exif\x00\x00II*\x00\x08\x00\x00\x00\x01\x00\x12\x01\x03\x00\x01\x00\x00\x00\x63\x00\x00\x00",
    ],
    ids=["garbage", "nowhere", "endless", "orientation99"],
)
@pytest.mark.parametrize("target", ["jpg", "png", "tiff", "heic"])
def test_broken_exif(convert: Convert, exif: bytes, target: str) -> None:
    """Broken EXIF does not cost the picture."""
    result = convert(carrier("JPEG", exif), format=target)
    assert (96, 64) == Picture(Media(result.data)).rgb().size


@pytest.mark.parametrize("target", ["jpg", "png", "webp", "tiff", "avif"])
def test_damaged_exif(convert: Convert, target: str) -> None:
    """Bytes of EXIF that are not what they were do not cost the picture, whatever they become."""
    fields = ExifFields(orientation=6, make="ACME", latitude=1.5, longitude=2.5, altitude_m=3)
    random = np.random.default_rng(0)
    for original in (exif_with_thumbnail(6), fields.to_bytes()) * 40:
        exif = bytearray(original)
        for position in random.integers(6, 130, 3):
            exif[position] = int(random.choice([0, 1, 2, 5, 7, 12, 128, 255]))
        result = convert(carrier("JPEG", bytes(exif)), format=target)
        assert {64, 96} == {result.width, result.height}


def test_too_long_for_jpeg(convert: Convert) -> None:
    """Metadata that does not fit into a JPEG is left out, and what fits stays."""
    long = xmp(1).replace(b"Sea", b"Sea" * 30_000)
    stored = Stored(convert(carrier("PNG", ExifFields(make="ACME").to_bytes(), long), format="jpg"))
    assert ("ACME", b"") == (stored.exif[271], stored.xmp)
    assert long == Stored(convert(carrier("PNG", b"", long), format="webp")).xmp


@pytest.mark.parametrize("metadata", ["keep", "strip"])
@pytest.mark.parametrize("target", WITH_METADATA)
def test_profile_is_kept(convert: Convert, target: str, metadata: str) -> None:
    """The colour profile stays with the pixels, whatever becomes of the metadata."""
    profile = swapped_rgb_profile()
    media = Media(encoded(soft(), "PNG", icc_profile=profile))
    result = convert(media, format=target, metadata=metadata)
    assert profile == Stored(result).profile


@pytest.mark.parametrize("target", ["gif", "bmp"])
def test_profile_is_applied(convert: Convert, target: str) -> None:
    """Where the format has no profiles, the pixels are sRGB: here, red becomes green."""
    red = Image.new("RGB", (8, 8), (255, 0, 0))
    result = convert(encoded(red, "PNG", icc_profile=swapped_rgb_profile()), format=target)
    pixel = Picture(Media(result.data)).rgb().getpixel((4, 4))
    assert (0, 255, 0) == pytest.approx(pixel, abs=3)


@pytest.mark.parametrize("source", ["JPEG", "TIFF"])
@pytest.mark.parametrize("target", ["png", "jpg", "webp", "tiff", "heic"])
def test_cmyk(convert: Convert, source: str, target: str) -> None:
    """CMYK becomes sRGB by its profile, which is not written beside RGB pixels."""
    ink = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    result = convert(encoded(ink, source, icc_profile=red_cyan_profile()), format=target)
    assert Stored(result).profile is None
    pixel = Picture(Media(result.data)).rgb().getpixel((8, 8))
    assert (255, 0, 0) == pytest.approx(pixel, abs=16)


@pytest.mark.parametrize(
    ("target", "kept", "expected"), [("png", True, 55), ("jpg", True, 55), ("webp", False, 128)]
)
def test_grey_profile(convert: Convert, *, target: str, kept: bool, expected: int) -> None:
    """A grey profile stays with grey pixels, and is applied where only colours can be written."""
    profile = linear_grey_profile()
    data = encoded(Image.new("L", (16, 16), 55), "PNG", icc_profile=profile)
    result = convert(data, format=target)
    assert (profile if kept else None) == Stored(result).profile
    pixel = Picture(Media(result.data)).rgb().getpixel((8, 8))
    assert (expected,) * 3 == pytest.approx(pixel, abs=3)


def test_comments_are_not_carried(convert: Convert) -> None:
    """Nothing but EXIF, XMP and the profile is carried: no comment of a GIF, no text of a PNG."""
    gif = io.BytesIO()
    soft().save(gif, "GIF", comment=b"a secret")
    for target in ("gif", "jpg", "png", "webp"):
        result = convert(gif.getvalue(), format=target, metadata="strip")
        assert b"a secret" not in result.data


def test_thumbnail_fixture() -> None:
    """The made-up EXIF is what it should be: little-endian, with three directories."""
    exif = exif_with_thumbnail(3)
    assert (b"Exif\0\0II*\0", 8) == (exif[:10], struct.unpack_from("<I", exif, 10)[0])
