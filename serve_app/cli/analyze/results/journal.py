"""The append-only file of results: JSON, one line per file, so that any end loses nothing.

Each line is written whole and handed to the system before the next, so what is there after a
kill is whole lines and at most one part of a line at the end. Files that are sent anew lose their
old line first, so no path is ever there twice.
"""

import os
import shutil
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from click import ClickException, UsageError
from pydantic import ValidationError
from pydantic_core import to_json

from serve_app.cli.analyze.results.records import Kept, Record

_BEGIN = b'{"path":'
"""What every line begins with; how a part of one is told from a file of somebody else."""


class Journal:
    """The lines of one file; only one process may have it open, which the caller sees to."""

    def __init__(self, path: Path, request: str) -> None:
        """Read what is there; ``request`` is what this run asks for.

        Raises:
            UsageError: the file holds something else; it is left as it is.

        """
        self.path = path
        self._request = request
        self._spans: dict[str, tuple[int, int]] = {}  # of each path's line: from, to
        self._end_bytes = 0  # where the last whole line ends
        self._file: BinaryIO | None = None
        self.kept: dict[str, Kept] = {}
        if path.exists():
            self._read()

    def open(self, without: Iterable[str] = ()) -> None:
        """Open for ``append``, without the lines of some paths and without half a last line."""
        for path in without:
            self._spans.pop(path, None)
            self.kept.pop(path, None)
        kept_bytes = sum(end - start for start, end in self._spans.values())
        if kept_bytes < self._end_bytes:
            self._rewrite()
        self._file = self.path.open("ab", buffering=0)
        self._file.truncate(self._end_bytes)

    def append(self, record: dict[str, Any]) -> None:
        """Write one line.

        Raises:
            ClickException: the disk is full, for example; no half a line is left.

        """
        assert self._file is not None, "open() comes first"  # noqa: S101 - narrows the type
        rest = memoryview(to_json(record, inf_nan_mode="null") + b"\n")
        end_bytes = self._end_bytes + len(rest)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            self._file.truncate(self._end_bytes)
            raise ClickException(f"{self.path} can't be written: {error.strerror}") from error
        self._spans[record["path"]] = (self._end_bytes, end_bytes)
        self._end_bytes = end_bytes

    def lines(self) -> Iterator[bytes]:
        """Yield the line of each path, in the order of the file."""
        if not self._spans:
            return
        with self.path.open("rb") as file:
            for start, end in self._spans.values():
                file.seek(start)
                yield file.read(end - start)

    @property
    def paths(self) -> Collection[str]:
        """The paths that have a line."""
        return self._spans.keys()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def _read(self) -> None:
        with self.path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.endswith(b"\n"):
                    self._check_part(line)
                    return
                try:
                    record = Record.model_validate_json(line)
                except ValidationError as error:
                    raise UsageError(
                        f"line {number} of {self.path} is no result of `cl-serve analyze`; "
                        "name another file with --out",
                    ) from error
                # The order of the dictionary is that of the file: a later line replaces.
                self._spans.pop(record.path, None)
                self._spans[record.path] = (self._end_bytes, self._end_bytes + len(line))
                self.kept[record.path] = record.kept(self._request, self.path)
                self._end_bytes += len(line)

    def _check_part(self, part: bytes) -> None:
        """Half a line is dropped, but not the only line of a file that we did not write."""
        if not self.kept and part[: len(_BEGIN)] != _BEGIN[: len(part)]:
            raise UsageError(
                f"{self.path} was not written by `cl-serve analyze`; name another file with --out",
            )

    def _rewrite(self) -> None:
        new = self.path.with_name(f".{self.path.name}.new")
        spans: dict[str, tuple[int, int]] = {}
        end_bytes = 0
        with new.open("wb") as file:
            for path, line in zip(self._spans, self.lines(), strict=True):
                file.write(line)
                spans[path] = (end_bytes, end_bytes + len(line))
                end_bytes += len(line)
            file.flush()
            os.fsync(file.fileno())
        shutil.copymode(self.path, new)
        new.replace(self.path)
        self._spans, self._end_bytes = spans, end_bytes
