"""Made-up photos: a gradient as sky, blurred and sharp shapes, and noise as of a sensor."""

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from deployments.runtime.media_type import extension_of
from deployments.runtime.random_media.exif import ExifFields
from deployments.runtime.types import Media

_SKETCH_PX = 512  # shapes are drawn at this size and enlarged, which gives them soft edges
_BLURRED_SHAPES = 24
_SHARP_SHAPES = 40
_NOISE_DEVIATION = 5.0  # of 255; gives 12-megapixel JPEGs of a phone's usual 3 to 5 MB
_NOISE_TILE_PX = 1024  # noise repeats after so many pixels, which no codec notices


@dataclass(frozen=True, slots=True)
class ImageGenerator:
    """Makes photos, numbered from 0; the same fields and number give the same pixels.

    Attributes:
        size: (width, height) in pixels, as stored: before EXIF orientation.
        mode: a Pillow mode that ``format`` can hold.
        format: a Pillow format name; ``"HEIF"`` as well.
        quality: 1 to 100, for the lossy formats.
        exif: what to write as EXIF; None for no EXIF.
        seed: anything from 0.

    """

    size: tuple[int, int] = (640, 480)
    mode: str = "RGB"
    format: str = "JPEG"
    quality: int = 90
    exif: ExifFields | None = None
    seed: int = 0

    def pixels(self, number: int = 0) -> NDArray[np.uint8]:
        """Return photo ``number`` before encoding: (height, width, 3), uint8 RGB."""
        random = np.random.default_rng((self.seed, number))
        width, height = self.size
        sketch = _gradient(random)
        _draw_shapes(sketch, random, _BLURRED_SHAPES)
        picture = sketch.filter(ImageFilter.GaussianBlur(6)).resize(
            self.size,
            Image.Resampling.BICUBIC,
        )
        _draw_shapes(picture, random, _SHARP_SHAPES)
        tile_shape = (min(height, _NOISE_TILE_PX), min(width, _NOISE_TILE_PX), 1)
        tile = np.rint(random.normal(0.0, _NOISE_DEVIATION, tile_shape)).astype(np.int16)
        pixels = np.array(picture)
        # Tile by tile: a whole 12-megapixel picture in int16 would be another 72 MB.
        for top in range(0, height, _NOISE_TILE_PX):
            for left in range(0, width, _NOISE_TILE_PX):
                part = pixels[top : top + _NOISE_TILE_PX, left : left + _NOISE_TILE_PX]
                noise = tile[: part.shape[0], : part.shape[1]]
                part[:] = np.clip(part + noise, 0, 255)
        return pixels

    def image(self, number: int = 0) -> Image.Image:
        """Return photo ``number`` before encoding, in ``mode``."""
        return Image.fromarray(self.pixels(number)).convert(self.mode)

    def encode(self, number: int = 0) -> bytes:
        """Return photo ``number`` as the bytes of a file."""
        image = self.image(number)
        buffer = io.BytesIO()
        extra = {} if self.exif is None else {"exif": self.exif.to_bytes()}
        if self.format == "HEIF":
            # Imported when asked for: it loads libheif with its codecs.
            from pillow_heif import from_pillow  # noqa: PLC0415

            from_pillow(image).save(buffer, quality=self.quality, **extra)
        else:
            image.save(buffer, format=self.format, quality=self.quality, **extra)
        return buffer.getvalue()

    def media(self, number: int = 0) -> Media:
        """Return photo ``number`` as an upload, with a name that fits its format."""
        extension = extension_of(f"image/{self.format.lower()}") or ""
        return Media(self.encode(number), f"photo-{self.seed}-{number}{extension}")


def _gradient(random: np.random.Generator) -> Image.Image:
    """Draw a smooth change between four corner colours."""
    corners = random.integers(30, 226, (2, 2, 3), dtype=np.uint8)
    return Image.fromarray(corners).resize((_SKETCH_PX, _SKETCH_PX), Image.Resampling.BILINEAR)


def _draw_shapes(image: Image.Image, random: np.random.Generator, count: int) -> None:
    """Draw ellipses and rectangles of any colour, up to a third of the picture in extent."""
    draw = ImageDraw.Draw(image)
    for _ in range(count):
        x, y = random.uniform(0.0, 1.0, 2) * image.size
        half_width, half_height = random.uniform(0.01, 0.17, 2) * image.size
        box = (x - half_width, y - half_height, x + half_width, y + half_height)
        red, green, blue = (int(value) for value in random.integers(0, 256, 3))
        shape = draw.ellipse if random.random() < 0.5 else draw.rectangle  # noqa: PLR2004 - a coin
        shape(box, fill=(red, green, blue))
