"""Reading still images: every format, pixel mode, orientation and scale."""

import io
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from deployments.runtime.errors import TooLargeError
from deployments.runtime.picture import ACCEPTED_MIME_TYPES, ANIMATED_FORMATS, Picture
from deployments.runtime.random_media import ExifFields, ImageGenerator
from deployments.runtime.types import Media

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "HEIF", "AVIF")


def encoded(image: Image.Image, image_format: str, **options: object) -> bytes:
    """Encode with Pillow."""
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def rgb_of(data: bytes) -> np.ndarray:
    """Decode to (height, width, 3), uint8 RGB."""
    return np.asarray(Picture(Media(data)).rgb())


def png(width: int, height: int, bits: int, colour_type: int, rows: bytes = b"") -> bytes:
    """Build a PNG by hand, for what Pillow does not write."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    signature = b"\x89PNG\r\n\x1a\n"
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows))
    return signature + body + chunk(b"IEND", b"")


def corners() -> Image.Image:
    """Draw 64x32 pixels in four colours, so that any turn of the picture shows."""
    image = Image.new("RGB", (64, 32), (255, 0, 0))
    image.paste((0, 255, 0), (32, 0, 64, 16))
    image.paste((0, 0, 255), (0, 16, 32, 32))
    image.paste((255, 255, 255), (32, 16, 64, 32))
    return image


@pytest.mark.parametrize("image_format", FORMATS)
def test_reads_every_format(image_format: str) -> None:
    """Each accepted format gives its size from the header and RGB pixels like the original's."""
    generator = ImageGenerator(size=(96, 64), format=image_format)
    picture = Picture(generator.media())
    result = picture.rgb()
    assert (image_format, (96, 64)) == (picture.format, picture.size)
    assert ("RGB", (96, 64)) == (result.mode, result.size)
    # A palette of 256 colours, or a lossy codec: alike, not equal.
    difference = np.asarray(result, dtype=np.float64) - generator.pixels()
    assert np.abs(difference).mean() < 16


@pytest.mark.parametrize("image_format", FORMATS)
def test_reads_one_pixel(image_format: str) -> None:
    """The smallest picture is a picture."""
    picture = Picture(ImageGenerator(size=(1, 1), format=image_format).media())
    assert (1, 1) == picture.size == picture.rgb(1024).size == picture.rgb().size


def test_accepts_what_it_says() -> None:
    """The public list of media types holds the eight formats."""
    assert 9 == len(ACCEPTED_MIME_TYPES)  # HEIC and HEIF are one format with two types
    assert "image/svg+xml" not in ACCEPTED_MIME_TYPES


@pytest.mark.parametrize(
    ("mode", "colour", "image_format", "expected"),
    [
        ("1", 1, "PNG", (255, 255, 255)),
        ("L", 70, "PNG", (70, 70, 70)),
        ("L", 70, "JPEG", (70, 70, 70)),
        ("LA", (70, 0), "PNG", (255, 255, 255)),
        ("LA", (70, 255), "PNG", (70, 70, 70)),
        ("RGBA", (200, 10, 0, 0), "PNG", (255, 255, 255)),
        ("RGBA", (200, 0, 0, 51), "PNG", (244, 204, 204)),
        ("RGBA", (200, 0, 0, 51), "TIFF", (244, 204, 204)),
        ("I;16", 0, "PNG", (0, 0, 0)),
        ("I;16", 256, "PNG", (1, 1, 1)),
        ("I;16", 32896, "PNG", (128, 128, 128)),
        ("I;16", 65535, "PNG", (255, 255, 255)),
        ("I;16", 32896, "TIFF", (128, 128, 128)),
        ("I;16B", 32896, "TIFF", (128, 128, 128)),
        ("I", 32896, "TIFF", (128, 128, 128)),
        ("I", 2**31 - 1, "TIFF", (255, 255, 255)),
        ("I", -5, "TIFF", (0, 0, 0)),
        ("F", 0.5, "TIFF", (128, 128, 128)),
        ("F", 7.5, "TIFF", (0, 0, 0)),
        ("CMYK", (0, 255, 255, 0), "TIFF", (255, 0, 0)),
        ("LAB", (255, 128, 128), "TIFF", (255, 255, 255)),
        ("YCbCr", (128, 128, 128), "TIFF", (128, 128, 128)),
    ],
)
def test_converts_every_mode(
    mode: str,
    colour: float | tuple[int, ...],
    image_format: str,
    expected: tuple[int, int, int],
) -> None:
    """One colour in each pixel mode comes out as the colour that a person would see."""
    data = encoded(Image.new(mode, (16, 16), colour), image_format)
    assert expected == pytest.approx(Picture(Media(data)).rgb().getpixel((8, 8)), abs=1)


def test_float_range_is_stretched() -> None:
    """Floats outside 0 to 1 are spread from black to white, and NaN does no harm."""
    samples = np.array([[-10.0, 0.0], [np.nan, 10.0]], dtype=np.float32)
    result = rgb_of(encoded(Image.fromarray(samples), "TIFF"))
    assert [[0, 128], [128, 255]] == result[:, :, 0].tolist()


def test_16_bit_rgb_png() -> None:
    """16-bit colour keeps its brightness."""
    rows = b"\x00" + struct.pack(">6H", 65535, 32896, 0, 257, 65535, 0)
    assert [[[255, 128, 0], [1, 255, 0]]] == rgb_of(png(2, 1, 16, 2, rows)).tolist()


def test_16_bit_rgb_tiff() -> None:
    """16-bit colour in a TIFF keeps its brightness."""
    pixels = struct.pack("<3H", 65535, 32896, 0)
    entries = [
        (256, 3, 1, 1),
        (257, 3, 1, 1),
        (258, 3, 3, 128),
        (259, 3, 1, 1),
        (262, 3, 1, 2),
        (273, 4, 1, 134),
        (277, 3, 1, 3),
        (278, 3, 1, 1),
        (279, 4, 1, len(pixels)),
    ]
    directory = struct.pack("<H", len(entries)) + b"".join(
        struct.pack("<HHII", *entry) for entry in entries
    )
    data = (b"II*\x00" + struct.pack("<I", 8) + directory).ljust(128, b"\x00")
    data += struct.pack("<3H", 16, 16, 16) + pixels
    assert [[[255, 128, 0]]] == rgb_of(data).tolist()


@pytest.mark.parametrize("image_format", ["PNG", "GIF"])
def test_palette_with_transparency(image_format: str) -> None:
    """A transparent palette entry shows white, the others their colours."""
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    data = encoded(image, image_format, transparency=0)
    assert [[[255, 255, 255], [200, 100, 50]]] == rgb_of(data).tolist()


@pytest.mark.parametrize(("mode", "key"), [("RGB", (9, 9, 9)), ("L", 9)])
def test_transparent_colour(mode: str, key: object) -> None:
    """A colour that a PNG declares transparent shows white."""
    data = encoded(Image.new(mode, (2, 2), key), "PNG", transparency=key)  # pyright: ignore[reportArgumentType]
    assert (255, 255, 255) == Picture(Media(data)).rgb().getpixel((0, 0))


def test_adobe_cmyk_jpeg() -> None:
    """CMYK as Adobe writes it, inverted, is read the right way round."""
    data = encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG")
    assert b"Adobe" in data
    assert (255, 0, 0) == pytest.approx(Picture(Media(data)).rgb().getpixel((8, 8)), abs=3)


@pytest.mark.parametrize("image_format", ["GIF", "WEBP", "PNG", "TIFF", "AVIF"])
def test_first_frame_counts(image_format: str) -> None:
    """Of several frames or pages, the first one is the picture."""
    first, second = Image.new("RGB", (16, 16), (255, 0, 0)), Image.new("RGB", (16, 16), (0, 0, 255))
    data = encoded(first, image_format, save_all=True, append_images=[second])
    assert (255, 0, 0) == pytest.approx(Picture(Media(data)).rgb().getpixel((8, 8)), abs=4)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF", "HEIF", "AVIF"])
def test_orientation(image_format: str, orientation: int) -> None:
    """Size and pixels are as a person sees them, whichever way the camera was held."""
    upright = corners()
    undo = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    stored = upright if undo is None else upright.transpose(undo)
    buffer = io.BytesIO()
    exif = ExifFields(orientation=orientation).to_bytes()
    if image_format == "HEIF":
        from pillow_heif import from_pillow  # noqa: PLC0415 - loads codecs

        from_pillow(stored).save(buffer, quality=-1, exif=exif)
    else:
        stored.save(buffer, image_format, exif=exif)
    picture = Picture(Media(buffer.getvalue()))
    result = picture.rgb()
    assert (64, 32) == picture.size == result.size
    for point in ((16, 8), (48, 8), (16, 24), (48, 24)):
        assert upright.getpixel(point) == pytest.approx(result.getpixel(point), abs=40)


@pytest.mark.parametrize(
    ("wanted_px", "long_px"),
    [
        (None, 8001),
        (9000, 8001),
        (8001, 8001),
        (4001, 8001),
        (4000, 4001),
        (2001, 4001),
        (2000, 2001),
        (1001, 2001),
        (1000, 1001),
        (1, 1001),
    ],
)
@pytest.mark.parametrize("orientation", [1, 6])
def test_jpeg_scale(wanted_px: int | None, long_px: int, orientation: int) -> None:
    """A JPEG is decoded at the smallest scale that has the wanted number of pixels."""
    media = ImageGenerator((8001, 40), exif=ExifFields(orientation=orientation)).media()
    picture = Picture(media)
    result = picture.rgb(wanted_px)
    assert long_px == max(result.size)
    upright = result.size if orientation == 1 else result.size[::-1]
    assert upright[0] == long_px
    assert picture.size == ((8001, 40) if orientation == 1 else (40, 8001))


def test_reduced_decode_shows_the_same() -> None:
    """A turned JPEG at a quarter of its scale looks like the full one made smaller."""
    media = ImageGenerator((4000, 480), exif=ExifFields(orientation=6)).media()
    full, quarter = Picture(media).rgb(), Picture(media).rgb(160)
    assert (120, 1000) == quarter.size
    expected = np.asarray(full.resize(quarter.size, Image.Resampling.BOX), dtype=np.float64)
    assert np.abs(expected - np.asarray(quarter)).mean() < 4


@pytest.mark.parametrize("size", [(8000, 3), (3, 8000)])
def test_very_long_pictures(size: tuple[int, int]) -> None:
    """A short side of a few pixels does not vanish at a reduced scale."""
    result = Picture(ImageGenerator(size).media()).rgb(1000)
    assert max(result.size) >= 1000
    assert min(result.size) >= 1


def test_cache() -> None:
    """Each scale is decoded once, and what one gets does not depend on what others asked for."""
    picture = Picture(ImageGenerator((2400, 1800)).media())
    small = picture.rgb(100)
    assert (1200, 900) == small.size
    full = picture.rgb()
    assert (2400, 1800) == full.size
    assert small is picture.rgb(100) is picture.rgb(1200)
    assert full is picture.rgb(1201) is picture.rgb(10_000)


def test_threads_share_one_decode() -> None:
    """Callers in several threads get the same image."""
    picture = Picture(ImageGenerator((640, 480)).media())
    with ThreadPoolExecutor(4) as threads:
        results = set(map(id, threads.map(lambda _: picture.rgb(), range(8))))
    assert 1 == len(results)


def test_wish_below_one_pixel() -> None:
    """A length that is no length is the caller's mistake."""
    with pytest.raises(ValueError, match="long_side_px: expected at least 1, got 0"):
        Picture(ImageGenerator((8, 8)).media()).rgb(0)


def test_filters_are_set_once() -> None:
    """Reading many pictures does not pile up warning filters."""
    media = ImageGenerator((8, 8)).media()
    Picture(media)
    before = len(warnings.filters)
    Picture(media).rgb()
    assert before == len(warnings.filters)


@pytest.mark.parametrize(
    ("image_format", "expected"),
    [("JPEG", 1), ("BMP", 1), ("TIFF", 1), ("GIF", 3), ("WEBP", 3), ("PNG", 3), ("AVIF", 3)],
)
def test_frames(image_format: str, expected: int) -> None:
    """Animations have all their frames, documents of pages and stills have one."""
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    first, *others = [Image.new("RGB", (16, 16), colour) for colour in colours]
    options = {"append_images": others} if image_format in {"TIFF", *ANIMATED_FORMATS} else {}
    data = encoded(first, image_format, save_all=bool(options), duration=40, **options)
    picture = Picture(Media(data))
    shown = [frame.convert("RGB").getpixel((8, 8)) for frame in picture.frames()]
    assert expected == picture.frame_count == len(shown)
    for colour, pixel in zip(colours, shown, strict=False):
        assert colour == pytest.approx(pixel, abs=6)


def test_heic_collection() -> None:
    """Of a HEIC with several pictures, the one that it names as its main one is the frame."""
    from pillow_heif import from_pillow  # noqa: PLC0415 - loads codecs

    file = from_pillow(Image.new("RGB", (16, 16), (255, 0, 0)))
    file.add_from_pillow(Image.new("RGB", (16, 16), (0, 0, 255)))
    buffer = io.BytesIO()
    file.save(buffer, quality=90, primary_index=1)
    (pixel,) = [frame.getpixel((8, 8)) for frame in Picture(Media(buffer.getvalue())).frames()]
    assert (0, 0, 255) == pytest.approx(pixel, abs=8)


def test_picture_beside_the_frames() -> None:
    """What a PNG shows where animations are unknown is none of its frames."""
    still, *frames = [Image.new("L", (4, 4), grey) for grey in (1, 2, 3)]
    data = encoded(still, "PNG", save_all=True, append_images=frames, default_image=True)
    picture = Picture(Media(data))
    assert 2 == picture.frame_count
    assert [2, 3] == [frame.convert("L").getpixel((0, 0)) for frame in picture.frames()]
    assert (1, 1, 1) == picture.rgb().getpixel((0, 0))


def test_frame_that_enlarges() -> None:
    """A later frame of a GIF that makes it larger than allowed is refused."""
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    data = bytearray(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    second = data.rindex(b"\x2c" + struct.pack("<4H", 0, 0, 8, 8))
    data[second + 1 : second + 3] = struct.pack("<H", 4)
    assert [(8, 8), (12, 8)] == [frame.size for frame in Picture(Media(bytes(data))).frames()]
    with pytest.raises(TooLargeError, match="12x8 = 96 pixels; the limit is 64"):
        list(Picture(Media(bytes(data)), max_pixels=64).frames())


@pytest.mark.parametrize("orientation", [1, 6])
def test_upright(orientation: int) -> None:
    """Stored pixels of any mode are turned as the picture is, and one can ask whether they are."""
    stored = Image.new("LA", (6, 2))
    exif = ExifFields(orientation=orientation).to_bytes()
    picture = Picture(Media(encoded(stored, "PNG", exif=exif)))
    (upright,) = [picture.upright(frame) for frame in picture.frames()]
    assert (picture.size, "LA") == (upright.size, upright.mode)
    assert (orientation == 6) == picture.is_turned == (picture.size == (2, 6))
