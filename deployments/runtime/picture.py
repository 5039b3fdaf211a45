"""A still image, decoded on demand at the scale that its consumers need.

A 12-megapixel JPEG decoded at a quarter of its scale costs a fraction of a full decode, and a
face detector that looks at 128 pixels needs no more. So the header is read at once, which gives
the size and refuses unusable input early, and pixels are decoded when somebody asks for them.

The opener is chosen by content, from a fixed list of Pillow's readers. ``Image.open`` is not
used, for two reasons: it would reach readers that run other programs (EPS calls Ghostscript),
and its own pixel limit is a process-wide variable, where ours is an argument.

Colour profiles are not applied: models were trained on pictures whose profiles were ignored, and a
wide-gamut picture read as sRGB looks a little pale, no more. Of an animation or a document of
several pages, the first one counts, except in ``frames``.
"""

import io
import re
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property

from PIL import Image
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from deployments.runtime.errors import (
    ClServeError,
    CorruptMediaError,
    EmptyInputError,
    TooLargeError,
    UnsupportedMediaError,
)
from deployments.runtime.media_type import detect
from deployments.runtime.pixels import to_rgb
from deployments.runtime.types import Media

DEFAULT_MAX_PIXELS = 100_000_000
"""100 megapixels: more than common cameras give, and 300 MB as RGB."""

WORKING_LONG_SIDE_PX = 1000
"""A JPEG is decoded at this size or larger, whatever is asked for, so that all who look at one
photo share one decode and each gets the same pixels whether the others look or not. It is a
quarter of a 12-megapixel photo (4000 or 4032 pixels), which a JPEG decoder gives cheaply; 1024
would be half of it, for 8 ms more."""

_ORIENTATION_TAG = 0x0112  # EXIF 2.32, table 4
_PILLOW_MODULES = r"PIL\."
# As ``warnings.filters`` holds them. UserWarning is about metadata; the other one is about a
# number of pixels that max_pixels has allowed.
_PILLOW_FILTERS: dict[type[Warning], tuple[object, ...]] = {
    category: ("ignore", None, category, re.compile(_PILLOW_MODULES), 0)
    for category in (UserWarning, Image.DecompressionBombWarning)
}

# EXIF orientation, as a camera writes it, to what puts the picture upright; 1 is upright already.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = frozenset({5, 6, 7, 8})


def _open_heif(file: io.BytesIO) -> ImageFile:
    # Imported when the first HEIC comes: it loads libheif with its codecs.
    from pillow_heif import HeifImageFile  # noqa: PLC0415

    return HeifImageFile(file)


_OPENERS: dict[str, Callable[[io.BytesIO], ImageFile]] = {
    "image/jpeg": JpegImageFile,
    "image/png": PngImageFile,
    "image/webp": WebPImageFile,
    "image/gif": GifImageFile,
    "image/bmp": BmpImageFile,
    "image/tiff": TiffImageFile,
    "image/heic": _open_heif,
    "image/heif": _open_heif,
    "image/avif": AvifImageFile,
}

ACCEPTED_MIME_TYPES = frozenset(_OPENERS)
"""The media types that a ``Picture`` can be made of."""

ANIMATED_FORMATS = frozenset({"GIF", "WEBP", "PNG", "AVIF"})
"""Formats whose pictures follow each other in time. TIFF has pages, HEIC a collection."""

_ACCEPTED_WORDS = "JPEG, PNG, WebP, GIF, BMP, TIFF, HEIC and AVIF"


class Picture:
    """One still image. Safe to share between threads; decoding releases the GIL.

    Attributes:
        format: the name of the file format in capitals, for example ``"JPEG"``.
        icc_profile: the embedded colour profile, which ``rgb`` does not apply; None without one.

    """

    format: str

    def __init__(self, media: Media, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> None:
        """Read the header; no pixels yet.

        Args:
            media: the encoded picture. Its name serves error messages only.
            max_pixels: the most pixels (width times height) that the header may declare.

        Raises:
            EmptyInputError: there are no bytes.
            UnsupportedMediaError: the content is not in one of the accepted formats.
            CorruptMediaError: the header is broken or cut off.
            TooLargeError: the header declares more than ``max_pixels``.

        """
        self._name = repr(media.filename) if media.filename else "the picture"
        self._data = media.data
        self._max_pixels = max_pixels
        self._lock = threading.Lock()
        self._decoded: dict[int, Image.Image] = {}
        if not media.data:
            raise EmptyInputError(f"{self._name} is empty: 0 bytes")
        mime = detect(media.data).mime
        opener = _OPENERS.get(mime)
        if opener is None:
            raise UnsupportedMediaError(
                f"{self._name} looks like {mime}; accepted are {_ACCEPTED_WORDS}",
            )
        self._opener = opener

        with self._open() as header:
            width, height = header.size
            self._check_size(header.size)
            self._orientation = _orientation(header)
            # Pillow leaves it empty for none of our openers; the type allows it.
            self.format = header.format or mime
            self.icc_profile: bytes | None = header.info.get("icc_profile") or None
        self._size = (height, width) if self._orientation in _SIDEWAYS else (width, height)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels, as a person sees the picture: EXIF orientation applied."""
        return self._size

    def rgb(self, long_side_px: int | None = None) -> Image.Image:
        """Return the whole picture in RGB, upright as a person sees it.

        Transparent parts are shown on white; 16-bit samples are scaled to 8 bits.

        The image is kept, and shared by all callers: do not modify it. What a call gets does not
        depend on the calls before it.

        Args:
            long_side_px: the least number of pixels that the long side must have, as far as
                the original has them; less than ``WORKING_LONG_SIDE_PX`` counts as that. The
                result may be larger, up to the original's size: JPEG is decoded at 1/2, 1/4 or
                1/8 where that is enough, and the other formats only in full. None for the
                original's size.

        Returns:
            A loaded image of mode RGB, with the proportions of ``size``.

        Raises:
            CorruptMediaError: the content is broken or cut off.
            UnsupportedMediaError: the pixels are of a kind that has no RGB reading.
            ValueError: ``long_side_px`` is below 1.

        """
        if long_side_px is not None and long_side_px < 1:
            raise ValueError(f"long_side_px: expected at least 1, got {long_side_px}")
        original_px = max(self._size)
        wanted_px = original_px if long_side_px is None else long_side_px
        reduction = self._reduction(min(max(wanted_px, WORKING_LONG_SIDE_PX), original_px))
        with self._lock:
            if reduction not in self._decoded:
                self._decoded[reduction] = self._decode(reduction)
            return self._decoded[reduction]

    @contextmanager
    def stored(self) -> Iterator[ImageFile]:
        """Give the picture as it is stored: its own mode, size, frames and metadata; not loaded.

        EXIF orientation is still to be applied, except to TIFF, where Pillow does it on loading.

        Raises:
            CorruptMediaError: the content is broken or cut off; also when the block finds out.

        """
        with self._open() as stored, self._as_corrupt():
            yield stored

    @cached_property
    def frame_count(self) -> int:
        """How many frames an animation has; 1 for all else.

        Raises:
            CorruptMediaError: the content is broken or cut off.

        """
        if self.format not in ANIMATED_FORMATS:
            return 1
        with self.stored() as stored:
            return max(1, getattr(stored, "n_frames", 1) - _first_frame(stored))

    def frames(self) -> Iterator[ImageFile]:
        """Yield the frames of an animation, or the one picture, each whole and as it is stored.

        It is one and the same object each time, loaded, with the frame's own ``info``: copy what
        is to be kept. ``upright`` turns it.

        Raises:
            CorruptMediaError: the content is broken or cut off.
            TooLargeError: a later frame of a GIF enlarges it past ``max_pixels``.

        """
        with self.stored() as stored:
            first = _first_frame(stored)
            for index in range(self.frame_count):
                if self.frame_count > 1:  # a HEIC's one picture need not be its number 0
                    stored.seek(first + index)
                    self._check_size(stored.size)
                stored.load()
                yield stored

    @property
    def is_turned(self) -> bool:
        """Whether it is stored in another orientation than a person sees it."""
        return self._orientation != 1

    def upright(self, image: Image.Image) -> Image.Image:
        """Turn a stored picture of this file, in any mode, as a person sees it."""
        return image.transpose(_UPRIGHT[self._orientation]) if self.is_turned else image

    def _check_size(self, size: tuple[int, int]) -> None:
        width, height = size
        if width * height > self._max_pixels:
            raise TooLargeError(
                f"{self._name} has {width}x{height} = {width * height} pixels; "
                f"the limit is {self._max_pixels}",
            )

    def _reduction(self, needed_px: int) -> int:
        """By how much a JPEG decoder may scale down so that ``needed_px`` are left."""
        if self.format not in ("JPEG", "MPO"):
            return 1
        return next(n for n in (8, 4, 2, 1) if max(self._size) // n >= needed_px or n == 1)

    def _open(self) -> ImageFile:
        _ignore_pillow_warnings()
        try:
            return self._opener(io.BytesIO(self._data))
        except MemoryError:
            raise
        except Image.DecompressionBombError as error:
            raise TooLargeError(f"{self._name} is too large: {_words(error)}") from error
        except Exception as error:  # readers raise anything on broken bytes, not only OSError
            raise CorruptMediaError(f"{self._name} has a broken header: {_words(error)}") from error

    @contextmanager
    def _as_corrupt(self) -> Iterator[None]:
        """Turn what a reader raises on broken content into a ``CorruptMediaError``."""
        try:
            yield
        except (MemoryError, ClServeError):
            raise
        except Exception as error:  # as in _open
            raise CorruptMediaError(
                f"{self._name} is broken or cut off: {_words(error)}"
            ) from error

    def _decode(self, reduction: int) -> Image.Image:
        with self._open() as stored:
            if reduction > 1 and isinstance(stored, JpegImageFile):
                width, height = stored.size
                reduced = (max(1, width // reduction), max(1, height // reduction))
                stored.draft(stored.mode, reduced)
            with self._as_corrupt():
                stored.load()
            if isinstance(stored, JpegImageFile) and stored.mode == "RGB":
                return self.upright(stored)  # its pixels outlive the file; a copy takes 2 ms
            try:
                upright = to_rgb(stored)
            except ValueError as error:
                raise UnsupportedMediaError(
                    f"{self._name} has pixels of mode {stored.mode}, which can't be read as RGB",
                ) from error
        return self.upright(upright)


def _first_frame(stored: ImageFile) -> int:
    """Index of an animation's first frame: a PNG may begin with a picture that is none of them."""
    return 1 if stored.info.get("default_image") else 0


def _words(error: Exception) -> str:
    """Say what a reader complains about, in one line."""
    return " ".join(str(error).split()) or type(error).__name__


def _ignore_pillow_warnings() -> None:
    """Keep Pillow from warning about damage and size, which tells an operator nothing.

    A filter for the process, since ``warnings.catch_warnings`` must not be used by threads.
    Looked up each time, because others may have reset the filters since.
    """
    for category, entry in _PILLOW_FILTERS.items():
        if entry not in warnings.filters:
            warnings.filterwarnings("ignore", category=category, module=_PILLOW_MODULES)


def _orientation(header: ImageFile) -> int:
    """EXIF orientation that is still to be applied, 1 to 8; 1 for none or a broken one."""
    if isinstance(header, TiffImageFile):
        return 1  # Pillow applies it itself, to the size and to the pixels
    try:
        # Not header.getexif(): for PNG that would decode all pixels in search of a late chunk.
        value = Image.Image.getexif(header).get(_ORIENTATION_TAG, 1)
    except Exception:  # noqa: BLE001 - broken EXIF raises anything, and must not cost the picture
        return 1
    return value if value in _UPRIGHT else 1
