"""The photos that every subject gets: small and of 12 megapixels, with 0, 1, 4 and 20 faces.

They are made from portraits that anyone can fetch, and the detector that is benchmarked must find
in each the number of faces that it is named for.
"""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Literal

from PIL import Image, ImageOps

from benchmarks.errors import BenchmarkError
from deployments.runtime.random_media import ImageGenerator

Size = Literal["small", "large"]
SIZES: dict[Size, tuple[int, int]] = {"small": (600, 800), "large": (4000, 3000)}
FACES = (1, 0, 4, 20)
"""How many faces a photo has; the first is the one that stands for photos in general."""

PORTRAITS = ("obama", "biden", "obama2", "obama3", "astronaut")
"""Entries of tests/photos.yaml, tried in this order."""

SMALL_QUALITY = 90
LARGE_BYTES = (3_000_000, 5_000_000)
"""What cameras and phones write for 12 megapixels."""
LARGE_QUALITIES = (97, 95, 92, 90, 88, 85, 80, 75, 70)
_PORTRAIT_SHARE = 0.8  # of the height: somebody who stands before the camera
_BACKGROUNDS = 4
_HEAD = 1.6  # of the detected face: what is cut out of a portrait where many share a photo
_HEAD_ABOVE = 0.05  # of that, moved up: hair is outside of what a detector calls a face

Box = tuple[float, float, float, float]
"""x1, y1, x2, y2, normalised to 0 … 1 of the picture."""
FindFaces = Callable[[bytes], Sequence[Box]]
PortraitOf = Callable[[str], Image.Image]


@dataclass(frozen=True, slots=True)
class Photo:
    """An encoded JPEG, how many faces are in it, and where it comes from."""

    name: str
    data: bytes
    size: tuple[int, int]
    faces: int
    source: str


def name_of(size: Size, faces: int) -> str:
    """Name a photo, as in ``small`` and ``large, 20 faces``; one face goes without saying."""
    return size if faces == 1 else f"{size}, {faces} faces"


PHOTOS: dict[str, tuple[Size, int]] = {
    name_of(size, faces): (size, faces) for faces in FACES for size in SIZES
}
"""Name to size and faces."""


def make_photo(name: str, portrait_of: PortraitOf, find_faces: FindFaces) -> Photo:
    """Make a photo of ``PHOTOS``.

    Args:
        name: which one.
        portrait_of: opens a portrait by its name in ``PORTRAITS``.
        find_faces: runs the detector that is benchmarked.

    Raises:
        BenchmarkError: in every candidate the detector finds another number of faces.

    """
    size, faces = PHOTOS[name]
    if faces == 0:
        candidates = (("no portrait", background(size, i)) for i in range(_BACKGROUNDS))
    elif faces == 1:
        candidates = (
            (f"{portrait} on background {i}" if size == "large" else portrait, image)
            for portrait in PORTRAITS
            for i, image in enumerate(_with_one(size, portrait_of(portrait)))
        )
    else:
        heads = [head(portrait_of(portrait), find_faces) for portrait in PORTRAITS]
        candidates = (
            (f"{faces} heads from {PORTRAITS[i]} on", group(size, heads[i:] + heads[:i], faces))
            for i in range(len(heads))
        )
    seen: list[str] = []
    for source, image in candidates:
        data = encode(size, image)
        found = len(find_faces(data))
        if found == faces:
            return Photo(name, data, SIZES[size], faces, source)
        seen.append(f"{source}: {found}")
    raise BenchmarkError(
        f"no photo {name!r} in which exactly {faces} are found; found {', '.join(seen)}"
    )


def background(size: Size, number: int = 0) -> Image.Image:
    """Make up a background, the same one for the same number."""
    return ImageGenerator(size=SIZES[size]).image(number)


def small_portrait(portrait: Image.Image) -> Image.Image:
    """Scale and crop a portrait to the small size."""
    return ImageOps.fit(portrait.convert("RGB"), SIZES["small"], Image.Resampling.LANCZOS)


def large_portrait(portrait: Image.Image, number: int = 0) -> Image.Image:
    """Put an enlarged portrait before a background of 12 megapixels."""
    canvas = background("large", number)
    width, height = canvas.size
    portrait_height = round(height * _PORTRAIT_SHARE)
    portrait_width = round(portrait.width * portrait_height / portrait.height)
    scaled = portrait.convert("RGB").resize(
        (portrait_width, portrait_height),
        Image.Resampling.BICUBIC,
    )
    canvas.paste(scaled, ((width - portrait_width) // 2, height - portrait_height))
    return canvas


def head(portrait: Image.Image, find_faces: FindFaces) -> Image.Image:
    """Cut a square with the first face out of a portrait.

    Raises:
        BenchmarkError: there is no face.

    """
    faces = find_faces(_jpeg(portrait, SMALL_QUALITY))
    if not faces:
        raise BenchmarkError("no face is found in a portrait")
    x1, y1, x2, y2 = faces[0]
    width, height = portrait.size
    side = _HEAD * max((x2 - x1) * width, (y2 - y1) * height)
    left = (x1 + x2) / 2 * width - side / 2
    top = (y1 + y2) / 2 * height - side / 2 - _HEAD_ABOVE * side
    return portrait.crop((round(left), round(top), round(left + side), round(top + side)))


def group(size: Size, heads: Sequence[Image.Image], count: int) -> Image.Image:
    """Set heads in rows, repeated until there are ``count``, before a background."""
    canvas = background(size)
    width, height = canvas.size
    columns, rows = _grid(count, wide=width > height)
    cell_width, cell_height = width // columns, height // rows
    side = min(cell_width, cell_height)
    for i, one in enumerate(islice(cycle(heads), count)):
        row, column = divmod(i, columns)
        left = column * cell_width + (cell_width - side) // 2
        top = row * cell_height + (cell_height - side) // 2
        canvas.paste(one.resize((side, side), Image.Resampling.BICUBIC), (left, top))
    return canvas


def encode(size: Size, image: Image.Image) -> bytes:
    """Write a JPEG as a camera does: of quality 90, or of 3 to 5 MB at the best quality for that.

    Raises:
        BenchmarkError: no quality gives a large file of that size.

    """
    if size == "small":
        return _jpeg(image, SMALL_QUALITY)
    for quality in LARGE_QUALITIES:
        data = _jpeg(image, quality)
        if LARGE_BYTES[0] <= len(data) <= LARGE_BYTES[1]:
            return data
    raise BenchmarkError(
        f"no JPEG quality in {LARGE_QUALITIES} gives a file of {LARGE_BYTES} bytes"
    )


def _with_one(size: Size, portrait: Image.Image) -> list[Image.Image]:
    if size == "small":
        return [small_portrait(portrait)]
    return [large_portrait(portrait, i) for i in range(_BACKGROUNDS)]


def _grid(count: int, *, wide: bool) -> tuple[int, int]:
    """Columns and rows for a number of heads, as near to a square as it divides."""
    short = max(n for n in range(1, count + 1) if count % n == 0 and n * n <= count)
    return (count // short, short) if wide else (short, count // short)


def _jpeg(image: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, format="JPEG", quality=quality)
    return buffer.getvalue()
