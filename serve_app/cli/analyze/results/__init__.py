"""What a run keeps: one record per file, as lines of JSON or as a Parquet file."""

from serve_app.cli.analyze.results.records import (
    Kept,
    Outcome,
    Problem,
    Record,
    State,
    local_problem,
    record_of,
)
from serve_app.cli.analyze.results.store import JsonLinesResults, ParquetResults, locked

__all__ = [
    "JsonLinesResults",
    "Kept",
    "Outcome",
    "ParquetResults",
    "Problem",
    "Record",
    "State",
    "local_problem",
    "locked",
    "record_of",
]
