"""The files of one run: which are found, which are photos or videos, and which version each is.

A path is kept as text that is valid in JSON, Parquet and on a terminal. Bytes of a name that are
not UTF-8 are written in hexadecimal after a backslash and an x.
"""

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from deployments.runtime.media_type import EMPTY, UNKNOWN, detect, mime_of_name

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MEDIA = frozenset({"image", "video"})


@dataclass(frozen=True, slots=True)
class FileVersion:
    """A file as it is at one moment; another size or time of modification is another version."""

    path: str
    size_bytes: int
    modified_at: str


@dataclass(slots=True)
class Found:
    """Files in a stable order, each once.

    Attributes:
        named: those named on the command line, which are taken whatever they are.
        in_folders: those found in folders.
        unreadable: folders that can't be looked into, each with the reason.

    """

    named: list[str] = field(default_factory=list)
    in_folders: list[str] = field(default_factory=list)
    unreadable: list[tuple[str, str]] = field(default_factory=list)


def find(arguments: Iterable[Path]) -> Found:
    """List files, and those of folders with all that is below, as absolute paths.

    Hidden files and folders are left out, and links to folders are not followed, unless they are
    named themselves.
    """
    found = Found()
    folders: list[str] = []
    for argument in arguments:
        path = os.path.abspath(argument)  # noqa: PTH100 - Path.resolve would follow links
        into = folders if os.path.isdir(path) else found.named  # noqa: PTH112 - kept as text
        into.append(path)
    found.named = list(dict.fromkeys(found.named))
    below = (path for folder in folders for path in _below(folder, found.unreadable))
    named = frozenset(found.named)
    found.in_folders = [path for path in dict.fromkeys(below) if path not in named]
    return found


def _below(folder: str, unreadable: list[tuple[str, str]]) -> Iterator[str]:
    def note(error: OSError) -> None:
        unreadable.append((error.filename, str(error.strerror)))

    for at, folders, names in os.walk(folder, onerror=note):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith("."):
                yield os.path.join(at, name)  # noqa: PTH118 - half the time of Path, for millions


def version_of(path: str, status: os.stat_result) -> FileVersion:
    """Describe a file by its status."""
    return FileVersion(text_of(path), status.st_size, iso_of(_moment(status.st_mtime_ns)))


def is_regular(status: os.stat_result) -> bool:
    """Tell whether it is a file that can be read to its end: no pipe, device or folder."""
    return stat.S_ISREG(status.st_mode)


def is_media(path: str) -> bool:
    """Tell whether a file is a photo or a video.

    Its content decides. Only where that says nothing, since the file is damaged, empty or may
    not be read, its name does, so that such a file is reported rather than left out.
    """
    try:
        found = detect(Path(path))
    except OSError:
        found = None
    if found is not None and found.mime not in {EMPTY, UNKNOWN}:
        return found.kind in _MEDIA
    return (mime_of_name(path) or "").partition("/")[0] in _MEDIA


def text_of(path: str) -> str:
    """Return a path as valid Unicode."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def shown(text: str) -> str:
    """Return text that is safe on a terminal, line feeds and control characters escaped."""
    return text if text.isprintable() else repr(text)


def iso_of(moment: datetime) -> str:
    """ISO 8601 in UTC, always with microseconds, so that equal times are equal texts."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def _moment(time_ns: int) -> datetime:
    try:
        return _EPOCH + timedelta(microseconds=time_ns // 1000)
    except OverflowError:  # a time that only a file system takes for one
        if time_ns > 0:
            return datetime.max.replace(tzinfo=UTC)
        return datetime.min.replace(tzinfo=UTC)
