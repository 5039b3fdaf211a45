"""The Parquet file of results: read for what is done, and written anew from it and the journal.

It is only imported for such a file, since loading Arrow takes as long as all the rest.
"""

from collections.abc import Collection, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from click import UsageError
from pydantic_core import from_json

from serve_app.cli.analyze.files import iso_of
from serve_app.cli.analyze.results.columns import Column
from serve_app.cli.analyze.results.records import Kept, Record

ROW_GROUP_BYTES = 32 * 2**20
"""Arrow data of a row group, so that small groups of many runs become few."""

CHUNK_BYTES = 4 * 2**20
"""JSON text that is Python objects at one time, which take about ten times as much memory."""

_IDENTITY = ["path", "size_bytes", "modified_at", "request", "problems", "problem"]


def read_kept(path: Path, request: str, row: Column) -> dict[str, Kept]:
    """Read what a file has of each path, all but the outputs.

    Raises:
        UsageError: it holds something else, or results of another form or request.

    """
    expected = pa.schema(row.type)
    try:
        file = pq.ParquetFile(path)
    except pa.ArrowInvalid as error:
        raise UsageError(f"{path} is no Parquet file; name another one with --out") from error
    with file:
        if not file.schema_arrow.equals(expected):
            raise UsageError(
                f"the columns of {path} are not those of this request, or of this version of the "
                "service; give the same --outputs as before, or name another file with --out",
            )
        kept: dict[str, Kept] = {}
        for batch in file.iter_batches(columns=_IDENTITY):
            for found in batch.to_pylist():
                found["modified_at"] = iso_of(found["modified_at"])
                kept[found["path"]] = Record.model_validate(found).kept(request, path)
    return kept


def write(
    path: Path,
    row: Column,
    old: Path | None,
    without: Collection[str],
    lines: Iterable[bytes],
) -> None:
    """Write the rows of another file, but those of some paths, and then lines; memory is bounded.

    Raises:
        ArrowException: a value is not of the type that the schema says.

    """
    schema = pa.schema(row.type)
    with pq.ParquetWriter(path, schema) as writer:
        for table in _merged(chain(_old_tables(old, without), _new_tables(lines, row))):
            writer.write_table(table)


def _old_tables(old: Path | None, without: Collection[str]) -> Iterator[pa.Table]:
    if old is None:
        return
    with pq.ParquetFile(old) as file:
        for number in range(file.num_row_groups):
            table = file.read_row_group(number)
            wanted = [path not in without for path in table["path"].to_pylist()]
            yield table.filter(pa.array(wanted, pa.bool_()))


def _new_tables(lines: Iterable[bytes], row: Column) -> Iterator[pa.Table]:
    schema = pa.schema(row.type)
    rows: list[dict[str, Any]] = []
    size_bytes = 0
    for line in lines:
        rows.append(row.convert(from_json(line)))
        size_bytes += len(line)
        if size_bytes >= CHUNK_BYTES:
            yield pa.Table.from_pylist(rows, schema)
            rows, size_bytes = [], 0
    yield pa.Table.from_pylist(rows, schema)


def _merged(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    group: list[pa.Table] = []
    for table in tables:
        if not table.num_rows:
            continue
        group.append(table)
        if sum(one.nbytes for one in group) >= ROW_GROUP_BYTES:
            yield pa.concat_tables(group)
            group = []
    if group:
        yield pa.concat_tables(group)
