"""Reads the JSON of a run: everything that is shown is derived from it, and from nothing else."""

from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.suite import ALL_CORES, BARE, FIRST

Document = Mapping[str, Any]
"""The JSON of ``python -m benchmarks``."""
Entry = Mapping[str, Any]
"""One of its ``runs`` or ``ratios``."""


def measured(document: Document, workload: str) -> Iterator[Entry]:
    """Yield the runs of a workload, without first requests, which have a place of their own."""
    for run in document["runs"]:
        if run["workload"] == workload and run["load"] != FIRST.title:
            yield run


def find(document: Document, subject: str, workload: str, load: str) -> Entry | None:
    """Return one run, None if it was not measured."""
    wanted_id = f"{subject} | {workload} | {load}"
    return next((run for run in document["runs"] if run["id"] == wanted_id), None)


def of_bare(document: Document, run: Entry) -> str:
    """Images/s as a share of those of bare on all cores; nothing where bare was not measured."""
    bare = find(document, BARE, run["workload"], ALL_CORES.title)
    return f"{run['images_per_s'] / bare['images_per_s']:.2f}" if bare else ""


def titled(document: Document, workload: str) -> str:
    """Name a workload with its size."""
    about = document["workloads"][workload]
    if "width" not in about:
        return workload
    megabytes = about["bytes"] / 1e6
    return f"{workload}: {about['width']}×{about['height']}, {megabytes:.2f} MB"


def value(line: Entry) -> str:
    """Write what was measured for a number to reach."""
    if line["value"] is None:
        return "–"
    digits = 3 if line["limit"] == 0.99 else 0 if line["limit"] == 0 else 2  # noqa: PLR2004 - a cosine shows nothing in two digits, a count is whole
    return f"{line['value']:.{digits}f}{line['unit']}"


def wanted(line: Entry) -> str:
    """Write what was to be reached."""
    sign = "≤" if line["relation"] == "at most" else "≥"
    return f"{sign} {line['limit']:g}{line['unit']}"
