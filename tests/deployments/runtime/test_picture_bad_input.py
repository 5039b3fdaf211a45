"""Still images that are not what they should be: every bad input has its error."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile, TiffImagePlugin

from deployments.runtime import picture as picture_module
from deployments.runtime.errors import (
    ClServeError,
    CorruptMediaError,
    EmptyInputError,
    TooLargeError,
    UnsupportedMediaError,
)
from deployments.runtime.picture import Picture
from deployments.runtime.random_media import ImageGenerator
from deployments.runtime.types import Media

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "HEIF", "AVIF")


def encoded(image: Image.Image, image_format: str, **options: object) -> bytes:
    """Encode with Pillow."""
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def gradient() -> Image.Image:
    """Draw 64x32 pixels."""
    return Image.linear_gradient("L").resize((64, 32)).convert("RGB")


def png_header(width: int, height: int) -> bytes:
    """Build a PNG that declares a size and has hardly any pixels."""
    data = bytearray(encoded(Image.new("L", (1, 1)), "PNG"))
    data[16:24] = struct.pack(">II", width, height)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


def test_empty() -> None:
    """No bytes are refused as such, by name."""
    with pytest.raises(EmptyInputError, match=r"'photo\.jpg' is empty"):
        Picture(Media(b"", "photo.jpg"))


def test_unreadable_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pixels without an RGB reading are refused by name."""

    def refuse(_: Image.Image) -> Image.Image:
        raise ValueError("conversion not supported")

    monkeypatch.setattr(picture_module, "to_rgb", refuse)
    with pytest.raises(UnsupportedMediaError, match="pixels of mode CMYK"):
        Picture(Media(encoded(Image.new("CMYK", (4, 4)), "TIFF"))).rgb()


@pytest.mark.parametrize(
    ("data", "looks_like"),
    [
        (b"Dear diary, nothing happened.\n", "text/plain"),
        (b"<!doctype html><html><title>404</title></html>", "text/html"),
        (b"%PDF-1.7\n", "application/pdf"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", None),
        (b"\x00\x00\x00\x20ftypisom\x00\x00\x02\x00isomiso2avc1mp41", "video/mp4"),
        (b"II*\x00\x10\x00\x00\x00CR\x02\x00" + bytes(64), "image/x-canon-cr2"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", None),
        (bytes(range(256)), "application/octet-stream"),
        (b"\xff", "application/octet-stream"),
    ],
)
def test_other_content(data: bytes, looks_like: str | None) -> None:
    """Anything else, whatever its name, is refused with what it looks like and what is accepted."""
    with pytest.raises(UnsupportedMediaError) as caught:
        Picture(Media(data, "holiday.jpg"))
    assert "'holiday.jpg' looks like" in str(caught.value)
    assert "JPEG, PNG, WebP, GIF, BMP, TIFF, HEIC and AVIF" in str(caught.value)
    assert looks_like is None or looks_like in str(caught.value)


@pytest.mark.parametrize("image_format", FORMATS)
@pytest.mark.parametrize("share", [0.02, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("wanted_px", [None, 20])
def test_cut_off(image_format: str, share: float, wanted_px: int | None) -> None:
    """A file that ends early is an error, at reduced scale as well, and never half a picture."""
    data = ImageGenerator((160, 120), format=image_format).encode()
    kept = data[: max(32, int(len(data) * share))]
    with pytest.raises(CorruptMediaError, match="'cut'"):
        Picture(Media(kept, "cut")).rgb(wanted_px)
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


def test_cut_off_progressive_jpeg() -> None:
    """A progressive JPEG that lacks its last passes is an error too."""
    data = encoded(ImageGenerator((160, 120)).image(), "JPEG", progressive=True)
    with pytest.raises(CorruptMediaError, match="cut off"):
        Picture(Media(data[: len(data) * 3 // 4])).rgb()


def test_broken_pixels() -> None:
    """A wrong checksum in a PNG is an error of one line."""
    data = bytearray(ImageGenerator((64, 64), format="PNG").encode())
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(CorruptMediaError) as caught:
        Picture(Media(bytes(data))).rgb()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("image_format", FORMATS)
def test_flipped_bytes(image_format: str) -> None:
    """Random damage gives a picture or an error of ours, and no warning."""
    original = ImageGenerator((48, 32), format=image_format, seed=3).encode()
    random = np.random.default_rng(5)
    for _ in range(40):
        data = bytearray(original)
        for position in random.integers(4, len(data), 4):
            data[position] = int(random.integers(0, 256))
        try:
            result = Picture(Media(bytes(data)), max_pixels=1_000_000).rgb(16)
        except ClServeError:
            continue
        assert "RGB" == result.mode


@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\x00\x00",
        b"Exif\x00\x00garbage that is no TIFF",
        b"Exif\x00\x00II*\x00\xff\xff\xff\x7f",
        b"Exif\x00\x00II*\x00\x08\x00\x00\x00\xff\xff" + b"\xee" * 40,
        b"Exif\x00\x00II*\x00\x08\x00\x00\x00\x01\x00\x12\x01\x02\x00\x04\x00\x00\x00abcd",
        b"Exif\x00\x00II*\x00\x08\x00\x00\x00\x01\x00\x12\x01\x03\x00\x01\x00\x00\x00\x63\x00\x00\x00",
    ],
)
@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP"])
def test_broken_exif(image_format: str, exif: bytes) -> None:
    """Broken EXIF, or an orientation that does not exist, leaves the picture as stored."""
    data = encoded(gradient(), image_format, exif=exif)
    assert (64, 32) == Picture(Media(data)).size == Picture(Media(data)).rgb().size


def test_broken_tiff_metadata() -> None:
    """A TIFF with a tag that points nowhere is read all the same."""
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[33432] = "a notice that is long enough to be kept elsewhere"
    data = bytearray(encoded(gradient(), "TIFF", tiffinfo=tags))
    entry = data.index(struct.pack("<HH", 33432, 2))
    data[entry + 8 : entry + 12] = struct.pack("<I", 2**31 - 1)
    assert (64, 32) == Picture(Media(bytes(data))).rgb().size


def declared(image_format: str) -> bytes:
    """A small file whose header claims 30,000 x 30,000 pixels, or the most its format allows."""
    if image_format == "PNG":
        return png_header(30_000, 30_000)
    if image_format == "WEBP":
        image = Image.new("RGBA", (16, 16), (1, 2, 3, 4))
        data = bytearray(encoded(image, "WEBP", exif=b"Exif\x00\x00"))
        start = data.index(b"VP8X") + 12
        data[start : start + 6] = (16_382).to_bytes(3, "little") * 2
        return bytes(data)
    data = bytearray(ImageGenerator((64, 48), format=image_format).encode())
    if image_format == "JPEG":
        start = data.index(b"\xff\xc0") + 5
        data[start : start + 4] = struct.pack(">HH", 30_000, 30_000)
    elif image_format == "GIF":
        data[6:10] = struct.pack("<HH", 30_000, 30_000)
    elif image_format == "BMP":
        data[18:26] = struct.pack("<ii", 30_000, 30_000)
    elif image_format == "TIFF":
        for tag in (256, 257):
            start = data.index(struct.pack("<HH", tag, 4)) + 8
            data[start : start + 4] = struct.pack("<I", 30_000)
    return bytes(data)


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_decompression_bomb(image_format: str) -> None:
    """A small file that declares a huge picture is refused by its header."""
    with pytest.raises(TooLargeError):
        Picture(Media(declared(image_format)))


def test_pixel_limit() -> None:
    """The limit is inclusive, and the message gives the size and the limit."""
    media = ImageGenerator((100, 80)).media()
    assert (100, 80) == Picture(media, max_pixels=8000).size
    with pytest.raises(TooLargeError, match=r"100x80 = 8000 pixels; the limit is 7999"):
        Picture(media, max_pixels=7999)


def test_raised_limit() -> None:
    """A limit above Pillow's own is the one that counts, without a warning."""
    picture = Picture(Media(png_header(20_000, 10_000)), max_pixels=200_000_000)
    assert (20_000, 10_000) == picture.size
    assert 0 < (Image.MAX_IMAGE_PIXELS or 0) < 200_000_000 / 2
