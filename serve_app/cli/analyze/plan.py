"""What a run has to do: which files are sent, given what is there already."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from serve_app.cli.analyze.files import (
    FileVersion,
    Found,
    is_media,
    is_regular,
    text_of,
    version_of,
)
from serve_app.cli.analyze.results import Kept, State


@dataclass(slots=True)
class Plan:
    """The files of one run.

    Attributes:
        to_send: where each file is, and its version.
        done_before: how many need not be sent.
        failures: those that failed before and are not sent again, and what can't be looked at.
        others: how many files of the folders are neither photo nor video.

    """

    to_send: list[tuple[str, FileVersion]] = field(default_factory=list)
    done_before: int = 0
    failures: list[Kept] = field(default_factory=list)
    others: int = 0


def make_plan(found: Found, kept: Mapping[str, Kept], *, retry_failed: bool) -> Plan:
    """Decide on each file that was found; ``kept`` is what earlier runs have of each path."""
    plan = Plan()
    for path, reason in found.unreadable:
        plan.failures.append(_unreadable(path, reason))
    skipped = {State.DONE} if retry_failed else {State.DONE, State.FAILED}
    named = frozenset(found.named)
    for path in (*found.named, *found.in_folders):
        try:
            status = _status(path)
        except OSError as error:
            plan.failures.append(_unreadable(path, str(error.strerror)))
            continue
        version = version_of(path, status)
        before = kept.get(version.path)
        if before is not None and before.version == version and before.state in skipped:
            if before.state is State.DONE:
                plan.done_before += 1
            else:
                plan.failures.append(before)
        elif not is_regular(status):
            if path in named:
                plan.failures.append(_unreadable(path, "it is not a file"))
            else:
                plan.others += 1
        elif path in named or is_media(path):
            plan.to_send.append((path, version))
        else:
            plan.others += 1
    return plan


def _status(path: str) -> os.stat_result:
    return os.stat(path)  # noqa: PTH116 - paths are kept as text


def _unreadable(path: str, reason: str) -> Kept:
    return Kept(FileVersion(text_of(path), 0, ""), State.RETRY, f"It can't be read: {reason}")
