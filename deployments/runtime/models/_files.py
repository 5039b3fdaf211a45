"""Files on disk: hashing, atomic placement, free space, quarantine, one member of an archive."""

import errno
import hashlib
import shutil
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from deployments.runtime.atomic import NO_ROOM_ERRNOS, atomic_write
from deployments.runtime.errors import ModelDownloadError

CHUNK_BYTES = 1 << 20
MAX_MEMBER_BYTES = 2 << 30
"""The most that one archive member may unpack to; several times the largest model in use."""
SPARE_BYTES = 32 << 20
"""Kept free beyond a download, so that other programs still find room."""
UNWRITABLE_ERRNOS = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST})


class SourceError(Exception):
    """One source can't give the file; the next one may. The message is the reason alone."""


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file's content as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def place(source: Path, target: Path) -> None:
    """Copy ``source`` to ``target`` atomically."""
    with source.open("rb") as reader, atomic_write(target) as writer:
        shutil.copyfileobj(reader, writer, CHUNK_BYTES)


def require_free_space(folder: Path, needed_bytes: int) -> None:
    """Check that ``folder``'s disk takes ``needed_bytes`` more.

    Raises:
        ModelDownloadError: it does not; the message says how much is needed and how much is free.

    """
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < needed_bytes + SPARE_BYTES:
        raise ModelDownloadError(
            f"disk full: {folder} has {_mb(free_bytes)} free, "
            f"{_mb(needed_bytes + SPARE_BYTES)} are needed; free some space and try again"
        )


@contextmanager
def disk_full_explained(folder: Path) -> Iterator[None]:
    """Turn the system's "no space left" and "can't write" into errors that say where and what.

    Raises:
        ModelDownloadError: the disk is full or the folder can't be written.

    """
    try:
        yield
    except OSError as error:
        if error.errno in NO_ROOM_ERRNOS:
            free = _mb(shutil.disk_usage(folder).free) if folder.exists() else "nothing"
            raise ModelDownloadError(
                f"disk full: {folder} has {free} free, which was not enough; "
                "free some space and try again"
            ) from error
        if error.errno in UNWRITABLE_ERRNOS:
            raise ModelDownloadError(
                f"the model cache {folder} can't be written: {error.strerror}; "
                "give this user access or choose another folder"
            ) from error
        raise


def quarantine(path: Path, cache: Path) -> Path | None:
    """Move a file with wrong content out of use, keeping it for inspection.

    Returns:
        Where it is now, or None when it could not be moved (a read-only cache, or another process
        was faster).

    """
    folder = cache / "quarantine"
    try:
        # The content's own hash in the name: the same corruption twice takes no second place.
        target = folder / f"{path.parent.parent.name}.{sha256_of(path)[:12]}.{path.name}"
        folder.mkdir(parents=True, exist_ok=True)
        path.replace(target)
    except OSError:
        return None
    return target


def extract_member(archive: Path, member: str, target: Path, size_bytes: int | None) -> None:
    """Unpack the one named member of a zip (wheel) or tar archive; nothing else is read.

    ``size_bytes`` limits what it may unpack to; without it the limit is ``MAX_MEMBER_BYTES``.

    Raises:
        SourceError: the archive is damaged or has no such regular file, or it is too large.

    """
    limit_bytes = size_bytes or MAX_MEMBER_BYTES
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as zipped, zipped.open(member) as reader:
                _copy_limited(reader, target, limit_bytes, member)
            return
        with tarfile.open(archive) as tarred:
            info = tarred.getmember(member)
            reader = tarred.extractfile(info) if info.isreg() else None
            if reader is None:
                raise SourceError(f"{member} is not a regular file")
            _copy_limited(reader, target, limit_bytes, member)
    except KeyError as error:
        raise SourceError(f"{archive.name} has no member {member}") from error
    except (tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
        raise SourceError(f"{archive.name} is damaged: {error}") from error


def _copy_limited(reader: IO[bytes], target: Path, limit_bytes: int, member: str) -> None:
    copied_bytes = 0
    with atomic_write(target) as writer:
        while chunk := reader.read(CHUNK_BYTES):
            copied_bytes += len(chunk)
            if copied_bytes > limit_bytes:
                raise SourceError(f"{member} is larger than the expected {limit_bytes} bytes")
            writer.write(chunk)


def _mb(count: int) -> str:
    return f"{count / 1e6:.0f} MB"
