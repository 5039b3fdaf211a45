"""Receiving bodies of any size: files go to disk as they come, and memory holds one part of them.

Used for jobs. ``uploads.py`` reads the small bodies of ``/v1`` into memory, where they are needed.
"""

import asyncio
import os
import platform
import re
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from python_multipart import MultipartParser
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import parse_options_header
from starlette.requests import Request

from deployments.runtime.errors import (
    InvalidParameterError,
    StorageFullError,
    TooLargeError,
)
from deployments.runtime.folders import NO_ROOM_ERRNOS

MAX_FIELDS = 1000
MAX_FIELD_BYTES = 2**20
"""Of one field; a text may be long, a list of HLS variants is not."""
_MAX_HEADER_BYTES = 16 * 2**10
_MAX_NAME_CHARACTERS = 120  # of at most two bytes each on average, of the 255 of a file system

_NAMED = re.compile(r"(?P<machine>.+)\.(?P<pid>\d+)\.[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class ReceivedFile:
    """A file that has arrived; ``filename`` is safe to be used as the name of a file."""

    field: str
    filename: str
    path: Path
    size_bytes: int


@dataclass(slots=True)
class ReceivedForm:
    """All that arrived, in the order in which it came."""

    fields: list[tuple[str, str]] = field(default_factory=list)
    files: list[ReceivedFile] = field(default_factory=list)


@asynccontextmanager
async def receive(
    request: Request,
    folder: Path,
    *,
    max_files: int,
) -> AsyncIterator[ReceivedForm]:
    """Receive a form, or a raw body as one file; files not moved elsewhere go when the block ends.

    Args:
        request: the request, of which nothing was read.
        folder: where the files are put.
        max_files: how many of them there may be.

    Raises:
        InvalidParameterError: it is no valid form.
        TooLargeError: too many files or fields, or too long ones.
        StorageFullError: the disk is full.
        ClientDisconnect: the client went away before it had sent everything.

    """
    await asyncio.to_thread(_prepare, folder)
    content_type = request.headers.get("content-type", "")
    kind, options = parse_options_header(content_type)
    form = ReceivedForm()
    into = _Folder(folder)
    parser = None
    try:
        if kind == b"multipart/form-data":
            if not options.get(b"boundary"):
                raise InvalidParameterError("the form's content type names no boundary")
            parser = _Parser(form, into, options[b"boundary"], max_files)
            async for chunk in request.stream():
                await asyncio.to_thread(parser.write, chunk)
            await asyncio.to_thread(parser.finish)
        else:
            raw = None
            async for chunk in request.stream():
                if chunk:
                    raw = raw or into.begin("file", "file")
                    await asyncio.to_thread(raw.write, chunk)
            if raw is not None:
                form.files.append(raw.end())
        yield form
    finally:
        await asyncio.to_thread(into.clear)


class _Arriving:
    """A file that is being written."""

    def __init__(self, field_name: str, filename: str, path: Path) -> None:
        self._field = field_name
        self._filename = filename
        self._path = path
        self._file: BinaryIO = path.open("xb")
        self._size_bytes = 0

    def write(self, data: bytes) -> None:
        try:
            self._file.write(data)
        except OSError as error:
            if error.errno in NO_ROOM_ERRNOS:
                raise StorageFullError(
                    f"the disk has no room for {self._filename!r}; free some space",
                ) from error
            raise
        self._size_bytes += len(data)

    def end(self) -> ReceivedFile:
        self.write(b"")
        try:
            self._file.close()
        except OSError as error:
            raise StorageFullError(
                f"the disk has no room for {self._filename!r}; free some space",
            ) from error
        return ReceivedFile(self._field, self._filename, self._path, self._size_bytes)

    def discard(self) -> None:
        with suppress(OSError):
            self._file.close()
        self._path.unlink(missing_ok=True)


class _Folder:
    """The files of one request."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: list[_Arriving] = []

    def begin(self, field_name: str, filename: str) -> _Arriving:
        name = f"{platform.node()}.{os.getpid()}.{uuid.uuid4().hex}"
        arriving = _Arriving(field_name, safe_name(filename), self._folder / name)
        self._files.append(arriving)
        return arriving

    def clear(self) -> None:
        for file in self._files:
            file.discard()


class _Parser:
    """Feeds python-multipart, and keeps what it finds."""

    def __init__(self, form: ReceivedForm, into: _Folder, boundary: bytes, max_files: int) -> None:
        self._form = form
        self._into = into
        self._max_files = max_files
        self._headers: dict[bytes, bytes] = {}
        self._header = (bytearray(), bytearray())
        self._name = ""
        self._value: bytearray | None = None
        self._file: _Arriving | None = None
        self._ended = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._on_part_begin,
                "on_part_data": self._on_part_data,
                "on_part_end": self._on_part_end,
                "on_header_field": lambda data, a, b: self._on_header(0, data[a:b]),
                "on_header_value": lambda data, a, b: self._on_header(1, data[a:b]),
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers_finished,
                "on_end": self._on_end,
            },
        )

    def write(self, data: bytes) -> None:
        try:
            self._parser.write(data)
        except MultipartParseError as error:
            raise InvalidParameterError(f"the form is not valid: {error}") from error

    def finish(self) -> None:
        self._parser.finalize()
        if not self._ended:
            raise InvalidParameterError("the form is cut off: its last boundary is missing")

    def _on_part_begin(self) -> None:
        self._headers = {}

    def _on_header(self, part: int, data: bytes) -> None:
        self._header[part].extend(data)
        if len(self._header[part]) > _MAX_HEADER_BYTES:
            raise TooLargeError("a header of a part of the form is too long")

    def _on_header_end(self) -> None:
        name, value = self._header
        self._headers[bytes(name).lower()] = bytes(value)
        name.clear()
        value.clear()

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        if b"name" not in options:
            raise InvalidParameterError("a part of the form has no name")
        self._name = _text(options[b"name"])
        if b"filename" in options:
            if len(self._form.files) == self._max_files:
                raise TooLargeError(f"more than {self._max_files} files in one request")
            self._file = self._into.begin(self._name, _text(options[b"filename"]))
        else:
            if len(self._form.fields) == MAX_FIELDS:
                raise TooLargeError(f"more than {MAX_FIELDS} fields in one form")
            self._value = bytearray()

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._file is not None:
            self._file.write(data[start:end])
        elif self._value is not None:
            self._value.extend(data[start:end])
            if len(self._value) > MAX_FIELD_BYTES:
                raise TooLargeError(f"form field {self._name!r} is longer than a MiB")

    def _on_part_end(self) -> None:
        if self._file is not None:
            self._form.files.append(self._file.end())
        elif self._value is not None:
            self._form.fields.append((self._name, _text(bytes(self._value))))
        self._file = self._value = None

    def _on_end(self) -> None:
        self._ended = True


def safe_name(filename: str) -> str:
    """Make of a client's name of a file one that is safe here; ``file`` where nothing is left."""
    last = re.split(r"[/\\]", filename)[-1]
    safe = re.sub(r"[^\w.-]+", "_", last).strip("._") or "file"
    stem, dot, suffix = safe.rpartition(".")
    if not dot:
        return safe[:_MAX_NAME_CHARACTERS]
    return f"{stem[:_MAX_NAME_CHARACTERS]}.{suffix[:16]}"


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise InvalidParameterError(f"the form is not UTF-8: {error}") from error


def _prepare(folder: Path) -> None:
    """Make the folder, and remove what processes of this machine that died have left in it."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for path in _abandoned(folder):
        path.unlink(missing_ok=True)


def _abandoned(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        found = _NAMED.fullmatch(path.name)
        if (
            found is not None
            and found["machine"] == platform.node()
            and not Path("/proc", found["pid"]).exists()
        ):
            yield path
