"""A file of one request in one process: its bytes, and what is made of them once for all nodes.

Pictures are decoded once however many nodes look at them. Programs such as ExifTool and FFmpeg
get a path below ``/proc``: the file behind it has no name in any folder, so nothing is left
behind even when this process is killed, and a symbolic link that is changed after the check of an
allowed path changes nothing.
"""

import contextlib
import os
import re
import tempfile
from functools import cached_property
from pathlib import Path
from threading import RLock
from typing import BinaryIO

from deployments.runtime.atomic import NO_ROOM_ERRNOS
from deployments.runtime.errors import EmptyInputError, NodeUnavailableError, TooLargeError
from deployments.runtime.folders import AllowedFolders
from deployments.runtime.media_type import MediaType, detect
from deployments.runtime.picture import ACCEPTED_MIME_TYPES, DEFAULT_MAX_PIXELS, Picture
from deployments.runtime.types import Media
from deployments.runtime.video import Video

MAX_BYTES_IN_MEMORY = 1024 * 2**20
"""A file that is named by its path is read into memory up to this size; videos never are."""

_HEAD_BYTES = 4096
_MAX_STEM_CHARACTERS = 60  # of at most four bytes each, which leaves room for a suffix in 255


class Asset:
    """One file. Safe to share between threads; close it when the request has ended.

    Attributes:
        filename: the name it was sent with, or None.

    """

    def __init__(
        self,
        media: Media,
        *,
        files: AllowedFolders = AllowedFolders(),  # noqa: B008 - immutable
        max_pixels: int = DEFAULT_MAX_PIXELS,
    ) -> None:
        """Open the file if it is on a disk.

        Raises:
            ForbiddenPathError: the path is not below a folder that may be read.
            PathNotFoundError: no file is there.
            EmptyInputError: there is not a byte.

        """
        self._media = media
        self._max_pixels = max_pixels
        self._lock = RLock()
        self._file: BinaryIO | None = None
        self.filename = media.filename
        if media.path is not None:
            self._file = files.open_to_read(media.path)
            self.filename = self.filename or Path(media.path).name
        elif media.stored is not None:
            self._file = files.open_stored(media.stored)
            self.filename = self.filename or Path(media.stored).name
        self._on_disk = self._file is not None
        if self.size_bytes == 0:
            self.close()
            raise EmptyInputError(f"{self.name} is empty: 0 bytes")

    @property
    def name(self) -> str:
        """What messages call it."""
        return repr(self.filename) if self.filename else "the file"

    @property
    def stem(self) -> str:
        """Its name without folders and extension, to name a result by; ``file`` without a name.

        Letters and digits of any script, ``-``, ``_`` and ``.`` only, and no ``.`` first.
        """
        last = re.split(r"[/\\]", self.filename or "")[-1]
        safe = re.sub(r"[^\w.-]+", "_", Path(last).stem).lstrip(".")
        return safe[:_MAX_STEM_CHARACTERS] or "file"

    @property
    def size_bytes(self) -> int:
        """How many bytes it has."""
        if not self._on_disk:
            return len(self._media.data)
        assert self._file is not None, "opened by the constructor"  # noqa: S101 - narrows the type
        return os.fstat(self._file.fileno()).st_size

    @cached_property
    def data(self) -> bytes:
        """All bytes. Raises ``TooLargeError`` for a file too large to be read into memory."""
        if not self._on_disk:
            return self._media.data
        if self.size_bytes > MAX_BYTES_IN_MEMORY:
            raise TooLargeError(
                f"{self.name} has {self.size_bytes / 2**20:.0f} MiB; the limit for what is read as "
                f"a whole is {MAX_BYTES_IN_MEMORY / 2**20:.0f} MiB",
            )
        return self.path.read_bytes()

    @cached_property
    def media_type(self) -> MediaType:
        """What the content is, by its first bytes."""
        return detect(self.path if self._on_disk else self._media.data)

    @property
    def path(self) -> Path:
        """Where this and other processes of the user can open it, until ``close``.

        Raises:
            NodeUnavailableError: the disk has no room for a copy.

        """
        with self._lock:
            if self._file is None:
                self._file = _unnamed_copy(self._media.data, self.name)
            return Path(f"/proc/{os.getpid()}/fd/{self._file.fileno()}")

    @property
    def picture(self) -> Picture:
        """The file as a still image, opened once. Raises what ``Picture`` raises."""
        with self._lock:
            return self._picture

    @property
    def video(self) -> Video:
        """The file as a video, opened once. Raises what ``Video`` raises."""
        with self._lock:
            return self._video

    def close(self) -> None:
        """Let go of the file; ``path`` leads nowhere afterwards."""
        with self._lock:
            if self._file is not None:
                self._file.close()

    @cached_property
    def _picture(self) -> Picture:
        data = self.data if self.media_type.mime in ACCEPTED_MIME_TYPES else self._head()
        return Picture(Media(data, self.filename), max_pixels=self._max_pixels)

    @cached_property
    def _video(self) -> Video:
        return Video(self.path, self.media_type, self.name, max_pixels=self._max_pixels)

    def _head(self) -> bytes:
        """Return the first bytes: enough to say what a file is that is no picture."""
        if not self._on_disk:
            return self._media.data
        with self.path.open("rb") as file:
            return file.read(_HEAD_BYTES)


def _unnamed_copy(data: bytes, name: str) -> BinaryIO:
    file = tempfile.TemporaryFile()  # noqa: SIM115 - the caller's to close
    try:
        file.write(data)
        file.flush()
    except OSError as error:
        # The buffer may still hold bytes, which closing tries to write once more.
        with contextlib.suppress(OSError):
            file.close()
        if error.errno in NO_ROOM_ERRNOS:
            raise NodeUnavailableError(
                f"the disk has no room for {name}: {error.strerror}"
            ) from error
        raise
    return file
