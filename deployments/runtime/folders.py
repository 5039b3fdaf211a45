"""Files on a node's disk: which folders a request may name, and where results keep their files."""

import os
import platform
import re
import shutil
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deployments.runtime.errors import ForbiddenPathError, PathNotFoundError

DEFAULT_KEEP_S = 24 * 3600.0
DEFAULT_MAX_BYTES = 10 * 2**30
_SWEEP_EVERY_S = 60.0
_ID = re.compile(r"[0-9a-f]{32}")
_UNFINISHED = ".unfinished"


@dataclass(frozen=True, slots=True)
class AllowedFolders:
    """The folders below which a request may name files.

    Attributes:
        readable: below these a file may be read.
        writable: below these a capability may be told to write.

    """

    readable: tuple[Path, ...] = ()
    writable: tuple[Path, ...] = ()

    def to_read(self, path: str) -> Path:
        """Return where ``path`` really is, all symbolic links followed.

        Raises:
            ForbiddenPathError: it is not absolute, or not below a readable folder.
            PathNotFoundError: nothing, or no file, is there.

        """
        real = _below(path, self.readable, "args.files.readable_folders")
        if not real.is_file():
            raise PathNotFoundError(f"there is no file at {path}")
        return real

    def to_write(self, path: str) -> Path:
        """Return where ``path``, which need not exist, really is.

        Raises:
            ForbiddenPathError: it is not absolute, or not below a writable folder.

        """
        return _below(path, self.writable, "args.files.writable_folders")


def _below(path: str, folders: Sequence[Path], key: str) -> Path:
    # One message for all cases: whether a file exists elsewhere is nobody's business.
    refusal = ForbiddenPathError(
        f"{path!r} is not an absolute path below a folder that {key} of the YAML allows",
    )
    if not Path(path).is_absolute() or "\0" in path:
        raise refusal
    real = Path(os.path.realpath(path))
    if not any(real != folder and real.is_relative_to(folder) for folder in _real(folders)):
        raise refusal
    return real


def _real(folders: Sequence[Path]) -> list[Path]:
    return [Path(os.path.realpath(folder)) for folder in folders]


@dataclass(frozen=True, slots=True)
class OutputFolder:
    """A new folder for one result; ``output_id`` is its name in the store."""

    output_id: str
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
    ) -> None:
        """Keep the settings; nothing is read or made before a method is called."""
        self.folder = folder
        self.keep_s = keep_s
        self.max_bytes = max_bytes
        self._swept_at_s = float("-inf")

    @contextmanager
    def new(self) -> Iterator[OutputFolder]:
        """Give an empty folder, published when the block ends and removed when it fails."""
        self.sweep()
        output_id = uuid.uuid4().hex
        owner = f"{platform.node()}.{os.getpid()}"
        unfinished = self.folder / f"{output_id}.{owner}{_UNFINISHED}"
        unfinished.mkdir(parents=True, mode=0o700)
        try:
            yield OutputFolder(output_id, unfinished)
            unfinished.rename(self.folder / output_id)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise

    def file(self, output_id: str, name: str) -> Path:
        """Return a file of a published folder.

        Raises:
            PathNotFoundError: there is no such folder or file, or no longer.

        """
        missing = PathNotFoundError(
            f"there is no output {output_id}/{name}; outputs are kept for {self.keep_s:g} s",
        )
        if not _ID.fullmatch(output_id):
            raise missing
        folder = Path(os.path.realpath(self.folder / output_id))
        path = Path(os.path.realpath(folder / name))
        if not path.is_relative_to(folder) or not path.is_file():
            raise missing
        return path

    def remove(self, output_id: str) -> None:
        """Remove a published folder.

        Raises:
            PathNotFoundError: there is no such folder, or no longer.

        """
        path = self.folder / output_id
        if not _ID.fullmatch(output_id) or not path.is_dir():
            raise PathNotFoundError(f"there is no output {output_id}")
        shutil.rmtree(path, ignore_errors=True)

    def sweep(self) -> None:
        """Remove what is too old or too much, and what processes that died left unfinished."""
        if time.monotonic() - self._swept_at_s < _SWEEP_EVERY_S or not self.folder.is_dir():
            return
        self._swept_at_s = time.monotonic()
        kept: list[tuple[float, Path, int]] = []
        for path in self.folder.iterdir():
            try:
                age_s = time.time() - path.stat().st_mtime
            except FileNotFoundError:  # another process was faster
                continue
            if path.name.endswith(_UNFINISHED):
                if age_s > self.keep_s or _owner_is_dead(path.name):
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


def _owner_is_dead(name: str) -> bool:
    """Tell whether a process of this very machine left the unfinished folder behind."""
    _, _, owner = name.removesuffix(_UNFINISHED).partition(".")
    machine, _, pid = owner.rpartition(".")
    return machine == platform.node() and not Path("/proc", pid).exists()


def folder_bytes(folder: Path) -> int:
    """Sum of the sizes of all files below a folder; files that vanish meanwhile count nothing."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:
            continue
    return total
