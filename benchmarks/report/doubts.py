"""Reasons not to believe a run, found after it; with one of them no target is judged.

A machine that others use gives figures of any kind, good ones too: whoever is measured while the
others rest wins. A green table of such a run would be worse than none.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from benchmarks.photos import Workload
from benchmarks.report.targets import Comparison

MAX_DRIFT = 0.1
"""Of bare images/s between the first and the last run. Beyond it the machine changed more than a
tuning would."""

MAX_OTHERS = 0.05
"""Share of the machine that others may use while something is measured."""

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


def doubts(
    comparisons: Mapping[Workload, Comparison], drift: float, *, code_changed: bool
) -> list[str]:
    """List the reasons not to believe a run, in words; none if there are none.

    Args:
        comparisons: what was measured.
        drift: change of bare images/s from the beginning to the end, as a share.
        code_changed: the code is not the same at the end as at the beginning.

    """
    found: list[str] = []
    if abs(drift) > MAX_DRIFT:
        found.append(f"bare images/s changed by {drift:+.0%} between the beginning and the end")
    if code_changed:
        found.append("code or configuration was edited meanwhile")
    for name, comparison in comparisons.items():
        for key, run in comparison.runs.items():
            if run.others_share > MAX_OTHERS:
                found.append(
                    f"others used {run.others_share:.0%} of the machine during {key}, {name} photo"
                )
        for title, run in (
            ("plain FastAPI", comparison.plain_all),
            ("tuned FastAPI", comparison.tuned_all),
            ("cl-ml-serve", comparison.served_all),
        ):
            ratio = run.images_per_s / comparison.bare_all.images_per_s
            if ratio > MAX_OVER_BARE:
                found.append(f"{title} gives {ratio:.2f}x of bare on the {name} photo")
    return found
