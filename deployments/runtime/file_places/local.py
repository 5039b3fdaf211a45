"""Files in a folder of this machine, or in one that many machines mount.

What is being written lies in ``.unfinished`` at the top, on the same filesystem, and is renamed
when it is complete; what is removed goes there first. So nothing is ever seen half, and what a
killed process left is found without looking through everything.
"""

import errno
import os
import shutil
import stat
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import BinaryIO

from deployments.runtime.atomic import sync
from deployments.runtime.errors import ForbiddenPathError
from deployments.runtime.file_places.facts import StoredFile

READ_BYTES = 2**20
"""Read at once: enough that the calls cost nothing beside the bytes."""

_UNFINISHED = ".unfinished"


class LocalPlace:
    """Files below a folder. Folders are made for this user alone."""

    def __init__(self, folder: Path) -> None:
        """Keep the folder; it is made when something is written."""
        self._folder = folder

    def adopt(self, path: Path, key: str) -> None:
        """Rename a file to its place, or a copy of it where that is another filesystem."""
        with path.open("rb") as file:
            os.fsync(file.fileno())
        try:
            self._put(path, key)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            with self._unfinished() as copy:
                shutil.copyfile(path, copy)
                sync(copy)
                self._put(copy, key)
            path.unlink()

    def adopt_folder(self, path: Path, key: str) -> None:
        """Rename a folder to its place, or a copy of it where that is another filesystem."""
        _sync_all(path)
        self.remove(key)
        try:
            self._put(path, key)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            with self._unfinished() as copy:
                shutil.copytree(path, copy, symlinks=True)
                _sync_all(copy)
                self._put(copy, key)
            shutil.rmtree(path)

    def write(self, key: str, data: bytes) -> None:
        """Write beside the place, then rename."""
        with self._unfinished() as path:
            with path.open("wb", buffering=0) as file:
                view = memoryview(data)
                while view:  # a write that runs into the end of the disk takes a part
                    view = view[file.write(view) :]
                os.fsync(file.fileno())
            self._put(path, key)

    def open(self, key: str) -> BinaryIO:
        """Open the file itself."""
        return FileIO(self.local_path(key))

    def info(self, key: str) -> StoredFile:
        """Look at the file; the ETag is its time, to the nanosecond, and size."""
        status = self._real(key).lstat()
        _require_file(status)
        etag = f"{status.st_mtime_ns:x}-{status.st_size:x}"
        return StoredFile(status.st_size, status.st_mtime, etag)

    def local_path(self, key: str) -> Path:
        """Return where it is, links followed."""
        path = self._real(key)
        _require_file(path.lstat())
        return path

    def read(self, key: str, start: int, stop: int) -> Iterator[bytes]:
        """Read from the file, which may be removed meanwhile."""
        with self.open(key) as file:
            file.seek(start)
            while start < stop and (data := file.read(min(READ_BYTES, stop - start))):
                yield data
                start += len(data)

    def walk(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Yield ordinary files; links and what vanishes meanwhile are left out."""
        top = self._real(prefix)
        for parent, folders, names in os.walk(top):
            if parent == str(top) and not prefix and _UNFINISHED in folders:
                folders.remove(_UNFINISHED)
            for name in names:
                path = Path(parent, name)
                with suppress(FileNotFoundError):
                    status = path.lstat()
                    if stat.S_ISREG(status.st_mode):
                        yield path.relative_to(top).as_posix(), status.st_size

    def remove(self, prefix: str) -> None:
        """Rename out of sight, then remove."""
        path = self._folder / prefix
        self._real(str(Path(prefix).parent))  # a link on the way may lead out, the last one not
        with self._unfinished() as gone, suppress(FileNotFoundError, NotADirectoryError):
            path.rename(gone)

    def top_folders(self) -> Iterator[tuple[str, float]]:
        """Yield folders with their own times."""
        with suppress(FileNotFoundError), os.scandir(self._folder) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    if entry.is_dir(follow_symlinks=False) and entry.name != _UNFINISHED:
                        yield entry.name, entry.stat(follow_symlinks=False).st_mtime

    def sweep(self, older_than_s: float) -> None:
        """Remove what is old in the folder of unfinished things."""
        before_s = time.time() - older_than_s
        unfinished = self._folder / _UNFINISHED
        for path in unfinished.iterdir() if unfinished.is_dir() else ():
            with suppress(FileNotFoundError):
                # Not the time of the last change of the content, which a rename keeps.
                if path.lstat().st_ctime < before_s:
                    _discard(path)

    @contextmanager
    def _unfinished(self) -> Iterator[Path]:
        """Give a name for something new; what is there when the block ends is removed."""
        path = self._folder / _UNFINISHED / uuid.uuid4().hex
        _make(path.parent)
        try:
            yield path
        finally:
            _discard(path)

    def _put(self, path: Path, key: str) -> None:
        """Rename to the place of a key, for good."""
        place = self._folder / key
        self._real(str(Path(key).parent))
        _make(place.parent)
        path.replace(place)
        # Journalling filesystems commit the folders that were made before along with this one.
        sync(place.parent)

    def _real(self, key: str) -> Path:
        """Follow all links. Raises ``ForbiddenPathError`` when they lead out of the folder."""
        top = Path(os.path.realpath(self._folder))
        path = Path(os.path.realpath(top / key))
        if not path.is_relative_to(top):
            raise ForbiddenPathError(f"{key!a} leads out of the store")
        return path


def _require_file(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))


def _make(folder: Path) -> None:
    """Make a folder and those above it, for this user alone."""
    if not folder.is_dir():
        _make(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)


def _discard(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _sync_all(folder: Path) -> None:
    """Write a folder and all files below it to the disk."""
    for parent, _, names in os.walk(folder):
        for name in names:
            if not Path(parent, name).is_symlink():
                sync(Path(parent, name))
        sync(Path(parent))
