"""Conversions whose result no catalogue records: what came of them on this machine.

The published file of some models could not be converted by whoever wrote the catalogue, so nobody
can say what the result must hash to. Each machine then converts for itself when it pulls the
model. A result is taken only when running it gave what the source gives; its sha256 is recorded
beside it, and decides at every use whether the file is still the one that was compared. Where a
step or the comparison fails, the reason is recorded and the source is used as it is.
"""

from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError, model_validator

from deployments.runtime.atomic import atomic_write
from deployments.runtime.models._entry import ConversionStep, ModelEntry, Sha256, Strict
from deployments.runtime.models._layout import CacheLayout


class LocalRecord(Strict):
    """What came of the steps: the sha256 of the result, or why there is none."""

    steps: tuple[ConversionStep, ...]
    sha256: Sha256 | None = None
    reason: str | None = None

    @model_validator(mode="after")
    def _is_one_of_both(self) -> "LocalRecord":
        if (self.sha256 is None) == (self.reason is None):
            raise ValueError("expected either sha256 or reason")
        return self


@dataclass(frozen=True, slots=True)
class UsableFile:
    """The file of a model that is used, and what it must hash to.

    ``reason`` says why it is the source although the catalogue has a conversion.
    """

    path: Path
    sha256: str
    reason: str | None = None


def read_record(layout: CacheLayout, entry: ModelEntry) -> LocalRecord | None:
    """Return what came of an entry's steps here; None where these steps were not tried yet."""
    if entry.convert is None or not entry.converts_here:
        return None
    try:
        record = LocalRecord.model_validate_json(layout.local_record(entry).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
    return record if record.steps == entry.convert.steps else None


def write_record(layout: CacheLayout, entry: ModelEntry, record: LocalRecord) -> None:
    """Remember what came of an entry's steps."""
    with atomic_write(layout.local_record(entry)) as file:
        file.write(record.model_dump_json(indent=1).encode())


def usable_file(layout: CacheLayout, entry: ModelEntry) -> UsableFile:
    """Tell which file of an entry is used here; it need not exist, and is not verified."""
    record = read_record(layout, entry)
    if record and record.sha256 and layout.local(entry).is_file():
        return UsableFile(layout.local(entry), record.sha256)
    reason = None
    if entry.converts_here:
        reason = (record and record.reason) or "it was not converted on this machine yet"
    return UsableFile(layout.usable(entry), entry.usable_sha256, reason)
