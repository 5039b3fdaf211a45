"""Files that are there as a whole or not at all, whatever breaks off or loses its power."""

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

NO_ROOM_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT})


@contextmanager
def atomic_write(target: Path) -> Iterator[BinaryIO]:
    """Open a temporary file that replaces ``target`` when the block ends without an error.

    The content is synced before the rename, and the folder after it, so that a power cut leaves
    the old file or the new one, never half of one.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        # mkstemp is readable by its owner alone; a cache may be shared by a group or a container.
        temporary.chmod(0o644)
        temporary.replace(target)
        sync(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Write a file to the disk; of a folder, what was renamed in it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
