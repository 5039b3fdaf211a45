"""What a body is made of, part by part: a form with files, one without, or a file.

Each kind takes the bytes as they come, in one thread, and puts what it finds into a form.
"""

import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO
from urllib.parse import parse_qsl

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from deployments.runtime.errors import InvalidParameterError, TooLargeError

MAX_FIELDS = 1000
MAX_FIELDS_BYTES = 8 * 2**20
"""Names and values of all fields together: they are kept in memory. Texts may be long."""
MAX_FILENAME_BYTES = 160
"""Of the 255 that file systems take; names of results add to it."""

_MAX_EXTENSION_BYTES = 20


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


class ArrivingFile:
    """A file that is being written."""

    def __init__(self, folder: Path, field_name: str, filename: str) -> None:
        """Begin it."""
        self.sent_name = filename
        self._field = field_name
        self._path = folder / uuid.uuid4().hex
        self._file: BinaryIO = self._path.open("xb", buffering=0)
        self._size_bytes = 0

    def write(self, data: bytes) -> None:
        """Add to it. Raises ``OSError`` where the disk is full."""
        view = memoryview(data)
        while view:  # a write that runs into the end of the disk takes a part
            view = view[self._file.write(view) :]
        self._size_bytes += len(data)

    def close(self) -> None:
        """Let go of the file that is being written."""
        self._file.close()

    def end(self) -> ReceivedFile:
        """Close it, and describe it."""
        self.close()
        return ReceivedFile(self._field, safe_name(self.sent_name), self._path, self._size_bytes)


class RawBody:
    """A body that is a file."""

    def __init__(self, form: ReceivedForm, begin: Callable[[str, str], ArrivingFile]) -> None:
        """Keep what to fill."""
        self._form = form
        self._begin = begin
        self._file: ArrivingFile | None = None

    def write(self, data: bytes) -> None:
        """Take the next bytes."""
        if data:
            self._file = self._file or self._begin("file", "")
            self._file.write(data)

    def finish(self) -> None:
        """All has come."""
        if self._file is not None:
            self._form.files.append(self._file.end())

    def close(self) -> None:
        """Let go of the file that is being written."""
        if self._file is not None:
            self._file.close()


class UrlencodedBody:
    """A form of fields alone: what HTTP clients send when there is no file."""

    def __init__(self, form: ReceivedForm) -> None:
        """Keep what to fill."""
        self._form = form
        self._data = bytearray()

    def write(self, data: bytes) -> None:
        """Take the next bytes."""
        self._data += data
        if len(self._data) > MAX_FIELDS_BYTES:
            raise _too_long()

    def finish(self) -> None:
        """All has come."""
        if self._data.count(b"&") >= MAX_FIELDS:
            raise _too_many()
        try:
            text = self._data.decode("ascii")
            self._form.fields += parse_qsl(text, keep_blank_values=True, errors="strict")
        except UnicodeError as error:
            raise InvalidParameterError(f"the form is not UTF-8: {error}") from error

    def close(self) -> None:
        """There is nothing to close."""


class MultipartBody:
    """Feeds python-multipart, and keeps what it finds."""

    def __init__(
        self,
        form: ReceivedForm,
        begin: Callable[[str, str], ArrivingFile],
        boundary: bytes,
        max_files: int,
    ) -> None:
        """Keep what to fill. Raises ``InvalidParameterError`` for a wrong boundary."""
        self._form = form
        self._begin = begin
        self._max_files = max_files
        self._fields_bytes = 0
        self._headers: dict[bytes, bytes] = {}
        self._header = (bytearray(), bytearray())
        self._name = ""
        self._value: bytearray | None = None
        self._file: ArrivingFile | None = None
        self._ended = False
        if not boundary:
            raise InvalidParameterError("the form's content type names no boundary")
        with _well_formed():
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._on_part_begin,
                    "on_part_data": self._on_part_data,
                    "on_part_end": self._on_part_end,
                    "on_header_field": lambda data, a, b: self._header[0].extend(data[a:b]),
                    "on_header_value": lambda data, a, b: self._header[1].extend(data[a:b]),
                    "on_header_end": self._on_header_end,
                    "on_headers_finished": self._on_headers_finished,
                    "on_end": self._on_end,
                },
            )

    def write(self, data: bytes) -> None:
        """Take the next bytes."""
        with _well_formed():
            self._parser.write(data)

    def finish(self) -> None:
        """All has come."""
        if not self._ended:
            raise InvalidParameterError("the form is cut off: its last boundary is missing")

    def close(self) -> None:
        """Let go of the file that is being written."""
        if self._file is not None:
            self._file.close()

    def _on_part_begin(self) -> None:
        self._headers = {}

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
            self._file = self._begin(self._name, _text(options[b"filename"]))
        else:
            if len(self._form.fields) == MAX_FIELDS:
                raise _too_many()
            self._value = bytearray()
            self._count(len(self._name))

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._file is not None:
            self._file.write(data[start:end])
        elif self._value is not None:
            self._count(end - start)
            self._value += data[start:end]

    def _on_part_end(self) -> None:
        if self._file is not None:
            file = self._file.end()
            # A browser sends a nameless nothing for a file that was not chosen.
            if self._file.sent_name or file.size_bytes:
                self._form.files.append(file)
        elif self._value is not None:
            self._form.fields.append((self._name, _text(bytes(self._value))))
        self._file = self._value = None

    def _on_end(self) -> None:
        self._ended = True

    def _count(self, size_bytes: int) -> None:
        self._fields_bytes += size_bytes
        if self._fields_bytes > MAX_FIELDS_BYTES:
            raise _too_long()


def safe_name(filename: str) -> str:
    """Make of a client's name of a file one that is safe here; ``file`` where nothing is left.

    Letters and digits of any script, ``-``, ``_`` and ``.`` only, and no ``.`` first. It keeps its
    extension, and has at most ``MAX_FILENAME_BYTES``.
    """
    last = re.split(r"[/\\]", filename)[-1]
    safe = re.sub(r"[^\w.-]+", "_", last).lstrip(".").rstrip("._")
    path = Path(safe or "file")
    extension = _cut(path.suffix, _MAX_EXTENSION_BYTES)
    return _cut(path.stem, MAX_FILENAME_BYTES - len(extension.encode())) + extension


def _cut(text: str, max_bytes: int) -> str:
    return text.encode()[:max_bytes].decode(errors="ignore")


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise InvalidParameterError(f"the form is not UTF-8: {error}") from error


def _too_many() -> TooLargeError:
    return TooLargeError(f"more than {MAX_FIELDS} fields in one form")


def _too_long() -> TooLargeError:
    limit_mib = MAX_FIELDS_BYTES / 2**20
    return TooLargeError(
        f"the fields of the form are longer than {limit_mib:g} MiB; send what is large as a file",
    )


@contextmanager
def _well_formed() -> Iterator[None]:
    try:
        yield
    except FormParserError as error:
        raise InvalidParameterError(f"the form is not valid: {error}") from error
