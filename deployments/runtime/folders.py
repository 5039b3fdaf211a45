"""Files on a node's disk: which folders a request may name, and where results keep their files."""

import os
import platform
import re
import shutil
import stat
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import BinaryIO

from deployments.runtime.atomic import NO_ROOM_ERRNOS
from deployments.runtime.errors import (
    ForbiddenPathError,
    NodeUnavailableError,
    PathNotFoundError,
)
from deployments.runtime.file_store import FileStore
from deployments.runtime.task import current_task

DEFAULT_KEEP_S = 24 * 3600.0
DEFAULT_MAX_BYTES = 10 * 2**30
_ABANDONED_S = 24 * 3600.0
"""Age from which a folder that another machine left unfinished counts as given up: nothing that
a request asks for takes so long, and that machine may be gone for good."""
_ID = re.compile(r"[0-9a-f]{32}")
_UNFINISHED = ".unfinished"


@dataclass(frozen=True, slots=True)
class AllowedFolders:
    """The folders below which a request may name files, and the store of those of jobs.

    Attributes:
        readable: below these a file may be read.
        writable: below these a capability may be told to write.
        store: where the files of jobs are; None without jobs.

    """

    readable: tuple[Path, ...] = ()
    writable: tuple[Path, ...] = ()
    store: FileStore | None = None

    def open_stored(self, key: str) -> BinaryIO:
        """Open a file of a job. Raises ``PathNotFoundError``."""
        if self.store is None:
            raise PathNotFoundError(f"there is no file {key!r}: no jobs are kept here")
        return self.store.open(key)

    def to_read(self, path: str) -> Path:
        """Return where ``path`` really is, all symbolic links followed.

        Use ``open_to_read`` where somebody could change those links meanwhile.

        Raises:
            ForbiddenPathError: it is not absolute, or not below a readable folder, or the
                service has no permission to read it.
            PathNotFoundError: nothing, or no file, is there.

        """
        with self.open_to_read(path) as file:
            return Path(file.name)

    def open_to_read(self, path: str) -> BinaryIO:
        """Open a file; its ``name`` is where it really is. Raises what ``to_read`` raises."""
        folders = _real(self.readable)
        refusal = _refusal(path, "args.files.readable_folders")
        real = _below(path, folders, refusal)
        try:
            # O_PATH finds the file without opening it: a pipe does not block, a device does not
            # begin to work, and links that change from here on change nothing.
            found = os.open(real, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                entry = Path(f"/proc/self/fd/{found}")
                # A folder on the way may have become a link since the path was resolved.
                if not _is_below(entry.readlink(), folders):
                    raise refusal
                if not stat.S_ISREG(os.fstat(found).st_mode):
                    raise PathNotFoundError(f"there is no file at {path!r}")
                return FileIO(real, opener=lambda _, flags: os.open(entry, flags))
            finally:
                os.close(found)
        except PermissionError as error:
            raise ForbiddenPathError(f"the service has no permission to read {path!r}") from error
        except OSError as error:
            raise PathNotFoundError(f"there is no file at {path!r}: {error.strerror}") from error

    def to_write(self, path: str) -> Path:
        """Return where ``path``, which need not exist, really is.

        Raises:
            ForbiddenPathError: it is not absolute, or not below a writable folder.

        """
        refusal = _refusal(path, "args.files.writable_folders")
        return _below(path, _real(self.writable), refusal)


def _refusal(path: str, key: str) -> ForbiddenPathError:
    # One message for all cases: whether a file exists elsewhere is nobody's business.
    return ForbiddenPathError(
        f"{path!r} is not an absolute path below a folder that {key} of the YAML allows",
    )


def _below(path: str, folders: Sequence[Path], refusal: ForbiddenPathError) -> Path:
    if not Path(path).is_absolute():
        raise refusal
    try:
        real = Path(os.path.realpath(path))
    except ValueError as error:  # a zero byte, or half of a surrogate pair
        raise refusal from error
    if not _is_below(real, folders):
        raise refusal
    return real


def _is_below(real: Path, folders: Sequence[Path]) -> bool:
    return any(real != folder and real.is_relative_to(folder) for folder in folders)


def _real(folders: Sequence[Path]) -> list[Path]:
    return [Path(os.path.realpath(folder)) for folder in folders]


@dataclass(frozen=True, slots=True)
class OutputFolder:
    """A new folder for one result.

    ``output_id`` is its name in the store, or None for one that becomes part of a job's files.
    """

    output_id: str | None
    path: Path


class OutputStore:
    """Folders of files that results refer to, such as the segments of an HLS stream.

    Each result has a folder with an unguessable name, which appears when it is complete. Folders
    are removed when they are older than ``keep_s``, and the oldest when all take more than
    ``max_bytes``. Any number of processes may use one store. A store pickles.
    """

    def __init__(
        self,
        folder: Path,
        *,
        keep_s: float = DEFAULT_KEEP_S,
        max_bytes: int = DEFAULT_MAX_BYTES,
        store: FileStore | None = None,
    ) -> None:
        """Keep the settings; nothing is read or made before a method is called.

        ``store`` has the files of jobs.
        """
        self.folder = folder
        self.keep_s = keep_s
        self.max_bytes = max_bytes
        self._store = store

    @property
    def destination(self) -> str | None:
        """The folder, in the files of jobs, for the output of the work that runs now, if any."""
        return current_task().destination if self._store is not None else None

    @contextmanager
    def new(self) -> Iterator[OutputFolder]:
        """Give an empty folder, published when the block ends and removed when it fails.

        That of a job's work becomes part of the job's files, at its ``destination``.

        Raises:
            NodeUnavailableError: the disk is full; also when the block finds out.
            StorageFullError: the files of jobs have no room.

        """
        self.sweep()
        output_id = uuid.uuid4().hex
        destination = self.destination
        owner = f"{platform.node()}.{os.getpid()}"
        unfinished = self.folder / f"{output_id}.{owner}{_UNFINISHED}"
        try:
            unfinished.mkdir(parents=True, mode=0o700)
            if self._store is not None and destination is not None:
                yield OutputFolder(None, unfinished)
                self._store.adopt_folder(unfinished, destination)
                return
            yield OutputFolder(output_id, unfinished)
            os.utime(unfinished)  # its age counts from now
            unfinished.rename(self.folder / output_id)
        except OSError as error:
            shutil.rmtree(unfinished, ignore_errors=True)
            if error.errno in NO_ROOM_ERRNOS:
                raise NodeUnavailableError(
                    f"the disk has no room for another output: {error.strerror}"
                ) from error
            raise
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise

    def file(self, output_id: str, name: str) -> Path:
        """Return a file of a published folder.

        Raises:
            PathNotFoundError: there is no such folder or file, or no longer.

        """
        missing = PathNotFoundError(
            f"there is no output {f'{output_id}/{name}'!r}; outputs are kept for {self.keep_s:g} s",
        )
        if not _ID.fullmatch(output_id):
            raise missing
        folder = Path(os.path.realpath(self.folder / output_id))
        try:
            path = Path(os.path.realpath(folder / name))
            found = path.is_relative_to(folder) and path.is_file()
        except (OSError, ValueError) as error:  # too long, or with a zero byte
            raise missing from error
        if not found:
            raise missing
        return path

    def remove(self, output_id: str) -> None:
        """Remove a published folder.

        Raises:
            PathNotFoundError: there is no such folder, or no longer.

        """
        path = self.folder / output_id
        if not _ID.fullmatch(output_id) or not path.is_dir():
            raise PathNotFoundError(f"there is no output {output_id!r}")
        shutil.rmtree(path, ignore_errors=True)

    def sweep(self) -> None:
        """Remove what is too old or too much, and what processes that died left unfinished."""
        kept: list[tuple[float, Path, int]] = []
        for path in self.folder.iterdir() if self.folder.is_dir() else ():
            try:
                age_s = time.time() - path.lstat().st_mtime
            except FileNotFoundError:  # another process was faster
                continue
            if path.name.endswith(_UNFINISHED):
                if _is_abandoned(path.name, age_s):
                    shutil.rmtree(path, ignore_errors=True)
            elif _ID.fullmatch(path.name):
                if age_s > self.keep_s:
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    kept.append((age_s, path, folder_bytes(path)))
        total_bytes = sum(size for _, _, size in kept)
        for _, path, size in sorted(kept, reverse=True):
            if total_bytes <= self.max_bytes:
                break
            shutil.rmtree(path, ignore_errors=True)
            total_bytes -= size


def _is_abandoned(name: str, age_s: float) -> bool:
    """Tell whether nobody works on an unfinished folder any more.

    Whether a process of this very machine lives can be seen; of another one, only the age can.
    """
    _, _, owner = name.removesuffix(_UNFINISHED).partition(".")
    machine, _, pid = owner.rpartition(".")
    if machine == platform.node():
        return not Path("/proc", pid).exists()
    return age_s > _ABANDONED_S


def folder_bytes(folder: Path) -> int:
    """Sum of the sizes of all files below a folder.

    Files that vanish meanwhile count nothing, nor does what symbolic links lead to.
    """
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                status = Path(parent, name).lstat()
            except FileNotFoundError:
                continue
            total += status.st_size if stat.S_ISREG(status.st_mode) else 0
    return total
