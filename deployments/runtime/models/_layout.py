"""Where things lie in the cache folder.

A file's folder carries the beginning of its sha256, so a newer catalogue with another hash makes a
model "not installed" instead of "corrupt", and two checkouts can share one cache::

    NAME/SHA256[:16]/FILE     source files and converted files
    NAME/SHA256[:16]/*.local.*    what was converted here, beside its source, and its record
    NAME/variants/            forms of it that were made and validated here, and their reports
    quarantine/               files with wrong content, moved out of use
    downloads/                unfinished https downloads, to be resumed
    locks/                    one lock file per model and per download
    runs/                     scratch space of running pulls
"""

from dataclasses import dataclass
from pathlib import Path

from deployments.runtime.models._entry import ModelEntry


@dataclass(frozen=True, slots=True)
class CacheLayout:
    """The paths inside one cache folder."""

    folder: Path

    def source(self, entry: ModelEntry) -> Path:
        """Return the place of an entry's source file."""
        return self.folder / entry.name / entry.sha256[:16] / entry.source_filename

    def usable(self, entry: ModelEntry) -> Path:
        """Return the place of the file that is used; the source's own without a conversion."""
        return self.folder / entry.name / entry.usable_sha256[:16] / entry.usable_filename

    def local(self, entry: ModelEntry) -> Path:
        """Return the place of a file that was converted on this machine, beside its source."""
        return self.source(entry).with_suffix(".local.onnx")

    def local_record(self, entry: ModelEntry) -> Path:
        """Return the place of what is known of that conversion."""
        return self.source(entry).with_suffix(".local.json")

    def variant(self, entry: ModelEntry, variant: str, suffix: str) -> Path:
        """Return the place of a variant of an entry (``.onnx``), or of its report (``.json``)."""
        return self.folder / entry.name / "variants" / f"{variant}{suffix}"

    def lock(self, key: str) -> Path:
        """Return the lock file of a model or a download."""
        return self.folder / "locks" / f"{key}.lock"

    @property
    def downloads(self) -> Path:
        """The folder of unfinished https downloads."""
        return self.folder / "downloads"

    @property
    def runs(self) -> Path:
        """The folder of the running pulls' scratch folders."""
        return self.folder / "runs"
