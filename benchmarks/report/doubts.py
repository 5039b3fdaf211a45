"""Reasons not to believe a run, found after it; with one of them no target is judged.

A machine that changes meanwhile gives figures of any kind, good ones too. A green table of such a
run would be worse than none. What spoils a single measurement is told by ``Results.run``, and voids
only what is derived from that.
"""

import hashlib
from pathlib import Path

from benchmarks.results import Results
from benchmarks.suite import ALL_CORES, BARE

MAX_DRIFT = 0.1
"""Of bare images/s between the first and the last run. Beyond it the machine changed more than a
tuning would."""

MAX_OVER_BARE = 1.05
"""No service with bare's models is faster than bare on all cores; a little is noise."""


def digest(folder: Path) -> str:
    """Fingerprint of what is measured: the code and configuration below a folder."""
    found = hashlib.sha256()
    for package in ("deployments", "serve_app", "config"):
        for path in sorted((folder / package).rglob("*")):
            if path.suffix in (".py", ".yaml"):
                found.update(str(path.relative_to(folder)).encode())
                found.update(path.read_bytes())
    return found.hexdigest()


def doubts(results: Results, *, code_changed: bool) -> list[str]:
    """List the reasons not to believe a run, in words; none if there are none.

    Args:
        results: what was measured.
        code_changed: the code is not the same at the end as at the beginning.

    """
    found: list[str] = []
    if abs(results.drift) > MAX_DRIFT:
        found.append(
            f"bare images/s changed by {results.drift:+.0%} between the beginning and the end"
        )
    if code_changed:
        found.append("code or configuration was edited meanwhile")
    for key, run in results.runs.items():
        bare = results.runs.get(key._replace(subject=BARE, load=ALL_CORES.title))
        if bare is not None and run.images_per_s > MAX_OVER_BARE * bare.images_per_s:
            ratio = run.images_per_s / bare.images_per_s
            found.append(f"{ratio:.2f}x of bare: {key}")
    return found
