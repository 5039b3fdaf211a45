"""A folder that a request names: filled beside its place, and put there when it is complete."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deployments.runtime.atomic import NO_ROOM_ERRNOS
from deployments.runtime.errors import InvalidParameterError, NodeUnavailableError


@contextmanager
def new_folder(place: Path) -> Iterator[Path]:
    """Give an empty folder, which becomes ``place`` when the block ends and is removed if it fails.

    What a process that died left behind is removed by the next one that comes for this place:
    a lock that the kernel lets go of with its process tells whether anybody is at work there.

    Args:
        place: absolute, no symbolic links in it; a new or an empty folder.

    Raises:
        InvalidParameterError: it can't be written, or something is there, or another request is
            writing it.
        NodeUnavailableError: the disk is full; also when the block finds out.

    """
    unfinished = place.with_name(f".{place.name}.unfinished")
    try:
        if place.exists() and (not place.is_dir() or any(place.iterdir())):
            raise InvalidParameterError(f"output_folder: {place} is there and is no empty folder")
        unfinished.mkdir(parents=True, exist_ok=True)
        lock = os.open(unfinished, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError as error:
        raise _unusable(place, error) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(lock)
        raise InvalidParameterError(
            f"output_folder: another request is writing to {place}",
        ) from error
    try:
        for left in unfinished.iterdir():
            left.unlink()
        yield unfinished
        unfinished.rename(place)
    except OSError as error:
        raise _unusable(place, error) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
        os.close(lock)


def _unusable(place: Path, error: OSError) -> InvalidParameterError | NodeUnavailableError:
    if error.errno in NO_ROOM_ERRNOS:
        return NodeUnavailableError(f"the disk has no room for {place}: {error.strerror}")
    return InvalidParameterError(f"output_folder: can't write to {place}: {error.strerror}")
