"""What a run keeps at ``--out``: lines of JSON, or a Parquet file with its journal beside it."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from click import ClickException
from filelock import FileLock, Timeout

from serve_app.cli.analyze.results.journal import Journal
from serve_app.cli.analyze.results.records import Kept

if TYPE_CHECKING:
    from serve_app.cli.analyze.results.columns import Column


class JsonLinesResults:
    """The file is its own journal: nothing is left to do at the end."""

    def __init__(self, journal: Path, request: str) -> None:
        """Read what is there. Raises ``UsageError`` where this run's results don't belong."""
        self._journal = Journal(journal, request)

    @property
    def kept(self) -> Mapping[str, Kept]:
        """What is there of each path."""
        return self._journal.kept

    @property
    def path(self) -> Path:
        """The journal."""
        return self._journal.path

    def open(self, without: Iterable[str]) -> None:
        """Begin to write; what is there of some paths makes way for what comes."""
        self._journal.open(without)

    def append(self, record: dict[str, Any]) -> None:
        """Add one file. Raises ``ClickException`` on a full disk."""
        self._journal.append(record)

    def finish(self) -> None:
        """Complete the file, whether all or a part is done."""
        self._journal.close()


class ParquetResults(JsonLinesResults):
    """While a run lasts its results are in the journal, which then goes into the file."""

    def __init__(self, out: Path, request: str, row: "Column") -> None:
        """Read what is there. Raises ``UsageError`` where this run's results don't belong."""
        super().__init__(out.with_name(f"{out.name}.partial.jsonl"), request)
        from serve_app.cli.analyze.results import parquet  # noqa: PLC0415 - loads Arrow

        self._out = out
        self._row = row
        self._parquet = parquet
        self._in_file = parquet.read_kept(out, request, row) if out.exists() else {}

    @property
    def kept(self) -> Mapping[str, Kept]:
        """What is there of each path; the journal is the newer one."""
        return {**self._in_file, **self._journal.kept}

    def finish(self) -> None:
        """Write the Parquet file, which replaces the old one when it is complete."""
        super().finish()
        journal = self.path
        fresh = self._journal.paths
        if fresh or not self._out.exists():
            new = self._out.with_name(f".{self._out.name}.new")
            old = self._out if self._out.exists() else None
            try:
                self._parquet.write(new, self._row, old, fresh, self._journal.lines())
                new.replace(self._out)
            except OSError as error:
                reason = error.strerror or str(error)
            except (ValueError, TypeError, ArithmeticError, AttributeError) as error:
                reason = f"a result is not what the service says of it: {error}"
            else:
                reason = ""
            finally:
                new.unlink(missing_ok=True)
            if reason:
                raise ClickException(
                    f"{self._out} can't be written: {reason}. All results are in {journal}, from "
                    "which the same command writes it",
                )
        journal.unlink(missing_ok=True)


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Keep other runs from writing the same file.

    Raises:
        ClickException: another run does.

    """
    path = out.with_name(f".{out.name}.lock")
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        raise ClickException(f"another `cl-serve analyze` writes {out} just now") from error
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # while it is held: whoever waits for it looks again
        lock.release()
