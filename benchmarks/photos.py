"""The two photos that every subject gets: a small one and a 12-megapixel one, one face in each."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from PIL import Image, ImageOps

from benchmarks.errors import BenchmarkError
from deployments.runtime.random_media import ImageGenerator

Workload = Literal["small", "large"]
WORKLOADS: tuple[Workload, ...] = ("small", "large")

PORTRAITS = ("obama", "biden", "obama2")
"""Entries of tests/photos.yaml, tried in order until one gives exactly one face."""

SMALL_PX = (600, 800)
SMALL_QUALITY = 90
LARGE_PX = (4000, 3000)
LARGE_BYTES = (3_000_000, 5_000_000)
"""What cameras and phones write for 12 megapixels."""
LARGE_QUALITIES = (95, 92, 90, 88, 85, 80, 75, 70)
_PORTRAIT_SHARE = 0.8  # of the height: somebody who stands before the camera
_BACKGROUNDS = 4

CountFaces = Callable[[bytes], int]


@dataclass(frozen=True, slots=True)
class Photo:
    """One workload's photo: an encoded JPEG, and where it comes from."""

    workload: Workload
    data: bytes
    size: tuple[int, int]
    source: str


def small_photo(portrait: Image.Image) -> bytes:
    """Scale and crop a portrait to 600x800, as a JPEG of quality 90."""
    fitted = ImageOps.fit(portrait.convert("RGB"), SMALL_PX, Image.Resampling.LANCZOS)
    return _jpeg(fitted, SMALL_QUALITY)


def large_photo(portrait: Image.Image, background: int = 0) -> bytes:
    """Put an enlarged portrait before a made-up background of 12 megapixels.

    Args:
        portrait: any size; it is scaled to a share of the height.
        background: number of the background, the same one for the same number.

    Returns:
        A JPEG of 3 to 5 MB, at the highest quality that gives that.

    Raises:
        BenchmarkError: no quality gives a file of that size.

    """
    canvas = ImageGenerator(size=LARGE_PX).image(background)
    width, height = canvas.size
    portrait_height = round(height * _PORTRAIT_SHARE)
    portrait_width = round(portrait.width * portrait_height / portrait.height)
    scaled = portrait.convert("RGB").resize(
        (portrait_width, portrait_height),
        Image.Resampling.BICUBIC,
    )
    canvas.paste(scaled, ((width - portrait_width) // 2, height - portrait_height))
    for quality in LARGE_QUALITIES:
        data = _jpeg(canvas, quality)
        if LARGE_BYTES[0] <= len(data) <= LARGE_BYTES[1]:
            return data
    raise BenchmarkError(
        f"no JPEG quality in {LARGE_QUALITIES} gives a file of {LARGE_BYTES} bytes"
    )


def make_photo(
    workload: Workload,
    portrait_of: Callable[[str], Image.Image],
    count_faces: CountFaces,
) -> Photo:
    """Make the photo of a workload and make sure that exactly one face is found in it.

    Args:
        workload: which one.
        portrait_of: opens a portrait by its name in ``PORTRAITS``.
        count_faces: runs the detector that is benchmarked.

    Raises:
        BenchmarkError: in every candidate the detector finds another number of faces.

    """
    found: list[str] = []
    backgrounds = range(1 if workload == "small" else _BACKGROUNDS)
    for name in PORTRAITS:
        portrait = portrait_of(name)
        for background in backgrounds:
            small = workload == "small"
            data = small_photo(portrait) if small else large_photo(portrait, background)
            faces = count_faces(data)
            if faces == 1:
                size = SMALL_PX if small else LARGE_PX
                source = name if small else f"{name} on background {background}"
                return Photo(workload, data, size, source)
            found.append(f"{name}: {faces}")
    raise BenchmarkError(f"no {workload} photo with exactly one face; found {', '.join(found)}")


def _jpeg(image: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=quality)
    return buffer.getvalue()
