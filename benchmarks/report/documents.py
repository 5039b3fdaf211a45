"""Writes docs/benchmarks.md and the README's figures from the JSON of a run.

No figure of a run is typed by hand: ``template.md`` holds the words, and a line ``<!-- name -->``
in it is replaced by what the function of that name in ``SECTIONS`` makes of the JSON.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from benchmarks.errors import BenchmarkError
from benchmarks.layouts import ROOT
from benchmarks.report.reading import Document, Entry, measured, of_bare, titled, value, wanted
from benchmarks.suite import FIRST, ONE_CORE, ONE_CORE_PI

DOCUMENT = ROOT / "docs" / "benchmarks.md"
README = ROOT / "README.md"
FOLDER = ROOT / "docs" / "benchmarks"
REPORT = FOLDER / "report.json"
"""The run that documents are written from."""

TEMPLATE = Path(__file__).with_name("template.md")
BEGIN, END = "<!-- benchmarks: written by `make bench-docs` -->", "<!-- /benchmarks -->"
"""Around what is replaced in the README."""

CLAIMS = (
    "CPU per photo, of bare | small",
    "CPU per photo, of bare | large",
    "images/s, of bare | small",
    "images/s, of bare | large",
    "images/s, of plain FastAPI | small",
    "images/s, of plain FastAPI | large",
    "images/s, of LitServe | small",
    "images/s, of LitServe | large",
    "images/s, of BentoML | small",
    "images/s, of BentoML | large",
    "added latency, one client, median | small",
    "images/s at 64 clients, of 8 | small",
    "photos/s on one core, serve.pi.yaml | large",
)
"""What the README shows, by the ids of lines in ``ratios``."""

_MARK = re.compile(r"^<!-- (\w+) -->$", re.MULTILINE)


def write_document(document: Document) -> str:
    """Write docs/benchmarks.md."""
    template = TEMPLATE.read_text(encoding="utf-8")
    return _MARK.sub(lambda mark: SECTIONS[mark[1]](document), template)


def write_section(document: Document) -> str:
    """Write the README's sentence and table of figures.

    Raises:
        BenchmarkError: a line that it shows is not in the report.

    """
    lines = {line["id"]: line for line in document["ratios"]}
    missing = [claim for claim in CLAIMS if claim not in lines]
    if missing:
        raise BenchmarkError(
            f"the report lacks {', '.join(missing)}: write documents from a run of all subjects",
        )
    rows = [
        (f"{line['title']}, {line['workload']} photo", value(line), wanted(line), line["verdict"])
        for line in (lines[claim] for claim in CLAIMS)
    ]
    machine = document["machine"]
    sentence = f"Measured in one run on {machine['cores']} cores ({machine['cpu']}):"
    return f"{sentence}\n\n" + _table(("figure", "measured", "wanted", "verdict"), rows)


def replace_section(readme: str, section: str) -> str:
    """Put the figures between their marks in the README.

    Raises:
        BenchmarkError: the marks are not there.

    """
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise BenchmarkError(f"README.md lacks the lines {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{section}\n{END}{after}"


def _ratios(document: Document) -> str:
    rows = [
        (line["workload"] or "–", line["title"], value(line), wanted(line), _verdict(line))
        for line in document["ratios"]
    ]
    return _table(("workload", "figure", "measured", "wanted", "verdict"), rows)


def _verdict(line: Entry) -> str:
    return f"void: {line['why']}" if line["why"] else line["verdict"]


def _machine(document: Document) -> str:
    machine = document["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    rows = [
        ("measured", document["measured_at"]),
        ("processor", f"{machine['cpu']}, {machine['cores']} cores"),
        ("memory", f"{machine['memory_gb']} GB"),
        ("system", f"{machine['system']}, Python {machine['python']}"),
        ("packages", versions),
        ("window", f"{document['plan']['seconds']:g} s a measurement"),
        ("others on the machine before", f"{document['busy_before_percent']:.0f} %"),
        ("bare, once more at the end", f"{document['drift']:+.1%} images/s"),
    ]
    return _table(("", ""), rows)


def _rates(document: Document) -> str:
    return "\n\n".join(_rates_of(document, workload) for workload in document["workloads"])


def _rates_of(document: Document, workload: str) -> str:
    rows = [
        (
            run["subject"],
            run["load"],
            f"{run['images_per_s']:.1f}",
            of_bare(document, run),
            f"{run['cpu_ms_per_photo']:.1f}",
            *(f"{run[key]:.1f}" for key in ("p50_ms", "p95_ms", "p99_ms")),
            str(run["refused"]),
        )
        for run in measured(document, workload)
    ]
    columns = (
        "subject",
        "load",
        "per second",
        "of bare",
        "CPU ms",
        "p50 ms",
        "p95 ms",
        "p99 ms",
        "503",
    )
    return f"### {titled(document, workload)}\n\n{_table(columns, rows)}"


def _first_requests(document: Document) -> str:
    rows = [
        (run["subject"], f"{run['p50_ms']:.0f}")
        for run in document["runs"]
        if run["load"] == FIRST.title and run["workload"] == "small"
    ]
    return _table(("subject", "first request after the start, ms"), rows)


def _one_core(document: Document) -> str:
    rows = [
        (
            run["subject"],
            f"{run['images_per_s']:.1f}",
            f"{run['cpu_ms_per_photo']:.0f}",
            f"{run['p50_ms']:.0f}",
            f"{run['p99_ms']:.0f}",
        )
        for run in measured(document, "large")
        if run["subject"] in (ONE_CORE_PI, ONE_CORE)
    ]
    return _table(("subject", "photos/s", "CPU ms", "p50 ms", "p99 ms"), rows)


def _graphs(document: Document) -> str:
    rows = [
        (
            row["model"],
            row["form"],
            f"{row['ms_per_image']:.1f}",
            f"{row['ratio']:.2f}×",
            f"{row['cosine']:.4f}",
        )
        for row in document["graphs"]
    ]
    return _table(("model", "form", "ms", "faster", "cosine"), rows)


def _memory(document: Document) -> str:
    rows = [
        (
            outcome["profile"],
            figure["title"],
            f"{figure['value']:,.{0 if figure['unit'] == 'MB' else 1}f} {figure['unit']}",
            f"≤ {figure['goal']:,g} {figure['unit']}",
        )
        for outcome in document["memory"]
        for figure in outcome["figures"]
    ]
    return _table(("profile", "figure", "measured", "wanted"), rows)


def _start(document: Document) -> str:
    rows = [
        (outcome["profile"], step, f"{seconds:.1f}")
        for outcome in document["memory"]
        for step, seconds in outcome.get("steps_s", {}).items()
    ]
    return _table(("profile", "step of `cl-serve up`", "s"), rows)


def _failures(document: Document) -> str:
    rows = [*document["failures"].items(), *((doubt, "voids all") for doubt in document["doubts"])]
    if not rows:
        return "Everything was measured, and nothing speaks against it."
    return _table(("what", "why"), [(what, _one_line(why)) for what, why in rows])


def _one_line(text: str) -> str:
    """Shorten a message to its first line and its last, which is the error of a traceback."""
    lines = text.strip().splitlines()
    return lines[0] if len(lines) == 1 else f"{lines[0]} … {lines[-1]}"


SECTIONS: dict[str, Callable[[Document], str]] = {
    "ratios": _ratios,
    "machine": _machine,
    "rates": _rates,
    "first_requests": _first_requests,
    "one_core": _one_core,
    "graphs": _graphs,
    "memory": _memory,
    "start": _start,
    "failures": _failures,
}


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return "Not measured in this run."

    def lines() -> Iterator[str]:
        yield f"| {' | '.join(columns)} |"
        yield "|" + "---|" * len(columns)
        for row in rows:
            yield f"| {' | '.join(cell.replace('|', '/') for cell in row)} |"

    return "\n".join(lines())
