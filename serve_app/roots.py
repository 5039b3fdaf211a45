"""The roots of the graph: what a request brings along, opened once in each process.

``upload`` is the file as it came, ``image`` and ``video`` the same file as a picture or a video,
``texts`` the request's texts. Each is opened when a node first asks for it.
"""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import Any

from deployments.runtime.asset import Asset
from deployments.runtime.errors import EmptyInputError
from deployments.runtime.folders import AllowedFolders
from deployments.runtime.picture import Picture
from deployments.runtime.types import Texts, Upload
from deployments.runtime.video import Video

ROOTS: Mapping[str, type] = {"upload": Asset, "image": Picture, "video": Video, "texts": Texts}

FILE_ROOTS = frozenset({"upload", "image", "video"})
"""The roots that need a file."""


def require(roots: frozenset[str], upload: Upload) -> None:
    """Check that a request brings what its nodes need.

    Raises:
        EmptyInputError: a file or a text is missing; the message shows how to send it.

    """
    if upload.media is None and roots & FILE_ROOTS:
        raise EmptyInputError("this needs a file; send one, for example: curl -F file=@photo.jpg")
    if not upload.texts and "texts" in roots:
        raise EmptyInputError("this needs a text; send one, for example: curl -F text='a red car'")


class Roots:
    """The roots of one request in one process.

    Used by the event loop and by worker threads. What is open is closed when ``close`` was called
    and no thread is in ``use`` any more: the thread of a cancelled request may go on for a while.
    """

    def __init__(self, upload: Upload, files: AllowedFolders, max_pixels: int) -> None:
        """Keep what was sent; nothing is opened."""
        self._sent = upload
        self._files = files
        self._max_pixels = max_pixels
        self._lock = threading.Lock()
        self._users = 0
        self._closing = False

    def get(self, name: str) -> Any:  # noqa: ANN401 - a root's own type
        """Open a root. Raises an ``InputError`` when the request's file can't be it."""
        if name == "texts":
            return Texts(self._sent.texts)
        with self._lock:
            asset = self._asset
        return {
            "upload": lambda: asset,
            "image": lambda: asset.picture,
            "video": lambda: asset.video,
        }[name]()

    @contextmanager
    def use(self) -> Iterator[None]:
        """Keep everything open during the block."""
        with self._lock:
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                self._close_if_unused()

    def close(self) -> None:
        """Close what is open, once nobody uses it."""
        with self._lock:
            self._closing = True
            self._close_if_unused()

    @cached_property
    def _asset(self) -> Asset:
        require(FILE_ROOTS, self._sent)
        assert self._sent.media is not None, "just required"  # noqa: S101 - narrows the type
        return Asset(self._sent.media, files=self._files, max_pixels=self._max_pixels)

    def _close_if_unused(self) -> None:
        if self._closing and not self._users and "_asset" in self.__dict__:
            self._asset.close()
