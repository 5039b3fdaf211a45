"""Files that several processes, or machines, share: below a folder, or in an S3-compatible store.

Keys are checked here, once for both, and so are the errors that people see. No file passes
through memory as a whole, except where its bytes are given. All methods block.
"""

import errno
import importlib.util
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from deployments.runtime.atomic import NO_ROOM_ERRNOS
from deployments.runtime.errors import (
    ConfigError,
    ForbiddenPathError,
    InputError,
    NodeUnavailableError,
    PathNotFoundError,
    StorageFullError,
)
from deployments.runtime.file_places.facts import StoredFile
from deployments.runtime.file_places.local import LocalPlace

if TYPE_CHECKING:
    from deployments.runtime.file_places.s3 import S3Place


S3_PREFIX = "s3://"
S3_OPTIONS = ("endpoint", "region")
_S3_URL = re.compile(r"s3://[^/]+(/[^/]+)*")

_NO_SUCH_ERRNOS = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP})


class FileStore:
    """Files by key: relative paths, parted by ``/``.

    Any number of processes and threads may use one store. A file appears when it is complete, and
    survives a power cut from then on. A store pickles; nothing is opened or made before a method
    is called.

    All methods that take a key raise ``ForbiddenPathError`` for one that leaves the store, or that
    is no key. They raise ``NodeUnavailableError`` when the store can't be reached.
    """

    def __init__(self, url: str, options: Mapping[str, str] | None = None) -> None:
        """Describe a store.

        Args:
            url: an absolute folder, or ``s3://bucket/prefix``.
            options: of S3: ``endpoint``, the URL of one that is not Amazon's, and ``region``.
                Credentials are found as all AWS programs find them.

        Raises:
            ConfigError: the URL or an option is wrong, or what S3 needs is not installed.

        """
        self.url = url.rstrip("/")
        self._options = dict(options or {})
        self._check()

    def __getstate__(self) -> tuple[str, dict[str, str]]:
        """Pickle what describes the store, without what is open."""
        return self.url, self._options

    def __setstate__(self, state: tuple[str, dict[str, str]]) -> None:
        """Describe the store as it was."""
        self.url, self._options = state

    def adopt(self, path: Path, key: str) -> None:
        """Move a file of this machine into the store, in place of what is there.

        Within one filesystem it is renamed, else copied or uploaded in parts.

        Raises:
            PathNotFoundError: nothing is at ``path``, or the folder was removed meanwhile.
            StorageFullError: there is no room.

        """
        with self._failures(key, path):
            self._place.adopt(path, _checked(key))

    def adopt_folder(self, path: Path, key: str) -> None:
        """Move a folder with all its files into the store, in place of what is there.

        In a folder it appears at once; in S3, file by file. Raises what ``adopt`` raises.
        """
        with self._failures(key, path):
            self._place.adopt_folder(path, _checked(key))

    def write(self, key: str, data: bytes) -> None:
        """Write a file, in place of what is there.

        Raises:
            StorageFullError: there is no room.

        """
        with self._failures(key):
            self._place.write(_checked(key), data)

    def open(self, key: str) -> BinaryIO:
        """Open a file to read; it has a ``fileno``, and seeks.

        What is in S3 is copied to a temporary file without a name first.

        Raises:
            PathNotFoundError: nothing is there.
            InputError: a folder is there.
            StorageFullError: the temporary file has no room.

        """
        with self._failures(key):
            return self._place.open(_checked(key))

    def info(self, key: str) -> StoredFile:
        """Look at a file. Raises ``PathNotFoundError``, or ``InputError`` for a folder."""
        with self._failures(key):
            return self._place.info(_checked(key))

    def local_path(self, key: str) -> Path | None:
        """Return where a file lies on this machine, or None when the store is in S3.

        Raises what ``info`` raises.
        """
        with self._failures(key):
            return self._place.local_path(_checked(key))

    def read(self, key: str, start: int, stop: int) -> Iterator[bytes]:
        """Yield the bytes from ``start`` up to ``stop`` in parts. Raises what ``info`` raises."""
        with self._failures(key):
            yield from self._place.read(_checked(key), start, stop)

    def list(self, prefix: str) -> tuple[tuple[str, int], ...]:
        """List all files below a folder: key relative to it and size in bytes, sorted by key."""
        with self._failures(prefix):
            return tuple(sorted(self._place.walk(_checked(prefix, whole=True))))

    def size_bytes(self, prefix: str) -> int:
        """Sum of the sizes of all files below a folder; the empty prefix is the whole store."""
        with self._failures(prefix):
            return sum(size for _, size in self._place.walk(_checked(prefix, whole=True)))

    def remove(self, prefix: str) -> None:
        """Remove a file, or a folder with all that is in it; nothing there is fine."""
        with self._failures(prefix):
            self._place.remove(_checked(prefix))

    def top_folders(self) -> Iterator[tuple[str, float]]:
        """Yield the folders at the top: name, and when something in it was last changed.

        The time is in seconds since 1970. In a folder, only what happens right in each counts.
        """
        with self._failures(""):
            yield from self._place.top_folders()

    def sweep(self, older_than_s: float) -> None:
        """Remove what writers that died left unfinished so many seconds ago; nobody sees it."""
        with self._failures(""):
            self._place.sweep(older_than_s)

    @cached_property
    def _place(self) -> "LocalPlace | S3Place":
        if not self.url.startswith(S3_PREFIX):
            return LocalPlace(Path(self.url))
        self._check()  # once more: this may be another machine
        from deployments.runtime.file_places.s3 import S3Place  # noqa: PLC0415 - an optional extra

        return S3Place(self.url.removeprefix(S3_PREFIX), self._options)

    def _check(self) -> None:
        if Path(self.url).is_absolute():
            return
        if not _S3_URL.fullmatch(self.url):
            raise ConfigError(
                f"expected an absolute folder or s3://bucket/prefix, got {self.url!r}",
            )
        for name in self._options:
            if name not in S3_OPTIONS:
                raise ConfigError(
                    f"options: expected {' or '.join(S3_OPTIONS)}, got {name!r}",
                )
        if importlib.util.find_spec("s3fs") is None:
            raise ConfigError(
                f"{self.url} needs the package s3fs, which is not installed; "
                "get it with: pip install 'cl-ml-serve[s3]'",
            )

    @contextmanager
    def _failures(self, key: str, source: Path | None = None) -> Iterator[None]:
        """Say in our own words what went wrong with a key."""
        try:
            yield
        except IsADirectoryError as error:
            raise InputError(f"{key!r} is a folder; name a file in it") from error
        except OSError as error:
            if error.errno in NO_ROOM_ERRNOS:
                raise StorageFullError(
                    f"there is no room for {key!r} in {self.url}: {error.strerror}; remove jobs, "
                    "or make room there",
                ) from error
            if isinstance(error, FileNotFoundError) or error.errno in _NO_SUCH_ERRNOS:
                there = "" if source is None else f", or no longer at {str(source)!r}"
                raise PathNotFoundError(f"there is no file {key!r}{there}") from error
            raise NodeUnavailableError(
                f"{self.url} can't be used: {error}; check args.jobs.files, what it needs, and "
                "the rights there",
            ) from error


def _checked(key: str, *, whole: bool = False) -> str:
    """Return a key without a slash at its end, if it is one; ``whole`` allows the empty one.

    Raises:
        ForbiddenPathError: it is none.

    """
    parts = key.rstrip("/").split("/")
    if parts == [""] and whole:
        return ""
    refusal = ForbiddenPathError(f"{key!a} is no path of a file here")
    if parts[0].startswith("."):  # a store's own
        raise refusal
    for part in parts:
        if part in ("", ".", "..") or "\\" in part or "\0" in part:
            raise refusal
    try:
        key.encode()
    except UnicodeEncodeError as error:  # half of a surrogate pair
        raise refusal from error
    return "/".join(parts)
