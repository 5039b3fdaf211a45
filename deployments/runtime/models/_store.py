"""The model store: what is on this machine, verified before every use."""

import enum
import logging
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from deployments.runtime.errors import (
    ConfigError,
    ModelError,
    ModelIntegrityError,
    ModelNotInstalledError,
)
from deployments.runtime.models import _bundle
from deployments.runtime.models._catalogue import Catalogue
from deployments.runtime.models._entry import ModelEntry
from deployments.runtime.models._files import quarantine, sha256_of
from deployments.runtime.models._layout import CacheLayout
from deployments.runtime.models._local import UsableFile, usable_file
from deployments.runtime.models._progress import ProgressCallback, ignore_progress
from deployments.runtime.models._variants import (
    VariantShelf,
    base_name,
    quantize_command,
    split_name,
)

_log = logging.getLogger(__name__)


class ModelStatus(enum.StrEnum):
    """Whether a model can be used on this machine."""

    INSTALLED = "installed"
    NOT_INSTALLED = "not installed"
    CORRUPT = "corrupt"


def default_cache_folder() -> Path:
    """Return ``cl-ml-serve/models`` in the user's cache folder, as the XDG standard places it."""
    home = os.environ.get("XDG_CACHE_HOME", "")
    # The standard has relative paths ignored.
    base = Path(home) if home and Path(home).is_absolute() else Path.home() / ".cache"
    return base / "cl-ml-serve" / "models"


Fetch = Callable[["ModelStore", str], None]
"""Is given a store and the name of a model that it lacks; installs it there, or raises why not."""


class ModelStore:
    """Hands out verified files of a catalogue from a cache folder.

    Any number of processes may use one cache folder at once. A store pickles, and one without a
    folder of its own uses the default one of whoever unpickles it, on whatever machine.

    Attributes:
        catalogue: what there is.
        offline: the network is never touched.
        fetch: called by ``path`` for a model that is not on this machine, if set.

    """

    fetch: Fetch | None = None

    def __init__(
        self,
        catalogue: Catalogue,
        cache: Path | None = None,
        *,
        offline: bool = False,
        backoff_s: float = 0.5,
    ) -> None:
        """Keep the settings; nothing is read or made before a method is called.

        Args:
            catalogue: What there is.
            cache: The cache folder, ``default_cache_folder()`` when None.
            offline: Never touch the network; what would need it raises ``OfflineError``.
            backoff_s: First wait between two attempts of a download; it doubles.

        """
        self.catalogue = catalogue
        self.offline = offline
        self._cache = cache
        self._backoff_s = backoff_s
        self._verified: set[tuple[Path, int, int]] = set()

    @property
    def cache(self) -> Path:
        """The cache folder."""
        return self._cache or default_cache_folder()

    def path(self, name: str, *, allow_unvalidated: bool = False) -> Path:
        """Return the local path of a model's usable file, verified.

        What the model needs is verified too. A file is hashed once per process, and again
        whenever its time or size has changed. Only ``fetch`` may touch the network.

        Raises:
            UnknownModelError: the catalogue has no such model.
            ModelNotInstalledError: it, or what it needs, is not on this machine; names the
                installing command.
            ModelIntegrityError: its sha256 is wrong; it has been moved to the quarantine.
            ModelNotValidatedError: it is a variant that failed its validation, and
                ``allow_unvalidated`` is not set.

        """
        base, variant = split_name(name)
        if variant is not None:
            self.path(base)
            usable = self.variants(name).usable(variant, allow_unvalidated=allow_unvalidated)
            return self._verified_path(name, usable, quantize_command(name))
        try:
            return self._path(name)
        except ModelNotInstalledError as missing:
            if self.fetch is None:
                raise
            try:
                self.fetch(self, name)
            except ModelError as error:
                raise ModelNotInstalledError(f"{missing} ({error})") from error
        return self._path(name)

    def status(self, name: str) -> ModelStatus:
        """Hash a model's file and tell its state; changes nothing.

        Raises:
            UnknownModelError: the catalogue has no such model.

        """
        entry = self.catalogue[name]
        _, variant = split_name(name)
        if variant is None:
            usable = usable_file(self._layout, entry)
        else:
            try:
                usable = self.variants(name).usable(variant, allow_unvalidated=True)
            except ModelNotInstalledError:
                return ModelStatus.NOT_INSTALLED
        if not usable.path.is_file():
            return ModelStatus.NOT_INSTALLED
        good = sha256_of(usable.path) == usable.sha256
        return ModelStatus.INSTALLED if good else ModelStatus.CORRUPT

    def verify(self) -> dict[str, ModelStatus]:
        """Hash every file of the catalogue and its variants, and tell the state of each."""
        names = [
            name
            for entry in self.catalogue
            for name in (
                entry.name,
                *(report.name for report in self.variants(entry.name).reports()),
            )
        ]
        return {name: self.status(name) for name in names}

    def variants(self, name: str) -> VariantShelf:
        """Return the variants of a model, or of the model whose variant is named.

        Raises:
            UnknownModelError: the catalogue has no such model.

        """
        return VariantShelf(self._layout, self.catalogue[name])

    def size_bytes(self, name: str) -> int | None:
        """Return the size of a model's file, None where it is not known.

        Raises:
            UnknownModelError: the catalogue has no such model.

        """
        _, variant = split_name(name)
        report = self.variants(name).report(variant) if variant else None
        return report.kept.size_bytes if report else self.catalogue[name].usable_size_bytes

    def pull(
        self,
        name: str,
        *,
        accept_licence: bool = False,
        progress: ProgressCallback = ignore_progress,
    ) -> Path:
        """Fetch, verify and convert a model unless it is here already; return its usable file.

        Sources are tried in the catalogue's order and the first with the right hash wins. A file
        with a wrong hash in the cache is moved to the quarantine and fetched again. Processes that
        pull the same model wait for the first of them.

        Raises:
            UnknownModelError: the catalogue has no such model.
            ModelLicenceError: the licence permits no commercial use and ``accept_licence`` is not
                set.
            OfflineError: the network is needed and the store is offline.
            ModelDownloadError: no source gave the file (each is listed with its reason), or the
                disk is full.
            ModelConversionError: a conversion step failed or gave another result.

        """
        result = self.pull_many([name], accept_licence=accept_licence, progress=progress)[name]
        if isinstance(result, ModelError):
            raise result
        return result

    def pull_many(
        self,
        names: Iterable[str],
        *,
        accept_licence: bool = False,
        progress: ProgressCallback = ignore_progress,
    ) -> dict[str, Path | ModelError]:
        """Pull several models, and what they need, in one run.

        An archive that they share is fetched once.

        Returns:
            For each name, and before it for what it needs, the usable file or the error that
            ``pull`` would have raised; one that fails does not keep the others from being pulled.

        Raises:
            UnknownModelError: the catalogue has no model of one of the names; nothing is pulled.
            ModelDownloadError: the cache folder can't be written.

        """
        from deployments.runtime.models._pull import PullRun  # noqa: PLC0415 - see the package's docstring

        entries = self._with_needs(names)
        results: dict[str, Path | ModelError] = {}
        run = PullRun(
            self._layout,
            self.catalogue.path.parent,
            progress,
            offline=self.offline,
            backoff_s=self._backoff_s,
        )
        with run:
            for entry in entries:
                try:
                    results[entry.name] = run.pull(entry, accept_licence=accept_licence)
                except ModelError as error:
                    results[entry.name] = error
        return results

    def export(self, names: Iterable[str], file: Path) -> None:
        """Write models, and what they need, into one tar file, for a machine without a network.

        It holds the files whose sha256 the catalogue has: of a model that each machine converts
        for itself, the source.

        Raises:
            UnknownModelError: the catalogue has no model of one of the names.
            ModelNotInstalledError: one is not on this machine.
            ModelIntegrityError: the file of one is corrupt.
            ConfigError: one is a variant, which each machine makes for itself.
            ModelDownloadError: the tar file can't be written.

        """
        names = list(names)
        if made_here := [name for name in names if split_name(name)[1]]:
            raise ConfigError(
                f"{', '.join(made_here)}: variants are validated on the machine that uses them and "
                "are not exported; export the model itself, and make the variant there with: "
                f"cl-serve quantize {base_name(made_here[0])} --calibration FOLDER"
            )
        chosen = self._with_needs(names)
        for entry in chosen:
            self.path(entry.name)
        _bundle.write(file, [(entry, self._layout.usable(entry)) for entry in chosen])

    def import_(self, file: Path, *, accept_licence: bool = False) -> tuple[str, ...]:
        """Install the models of a tar file that ``export`` wrote; return their names.

        Every file is checked against the catalogue's sha256, whatever the tar file claims.

        Raises:
            UnknownModelError: a model of the tar file is not in the catalogue.
            ModelLicenceError: the licence of one permits no commercial use and ``accept_licence``
                is not set; nothing is installed.
            ModelIntegrityError: the tar file is damaged, or its content is not what the catalogue
                names; the models before the wrong one are installed.
            ModelDownloadError: the disk is full or the cache can't be written.

        """
        names = _bundle.read(file, self.catalogue, self._layout, accept_licence=accept_licence)
        here = [name for name in names if self.catalogue[name].converts_here]
        if here:
            self.pull_many(here, accept_licence=accept_licence)
        return names

    def _with_needs(self, names: Iterable[str]) -> list[ModelEntry]:
        """Return the entries of the names, each after those that it needs, none twice."""
        wanted = [name for asked in names for name in (*self.catalogue[asked].needs, asked)]
        return [self.catalogue[name] for name in dict.fromkeys(wanted)]

    @property
    def _layout(self) -> CacheLayout:
        return CacheLayout(self.cache)

    def _path(self, name: str) -> Path:
        entry = self.catalogue[name]
        paths: list[Path] = []
        for part in (*entry.needs, name):
            usable = usable_file(self._layout, self.catalogue[part])
            if not usable.path.is_file():
                raise ModelNotInstalledError(
                    f"model {part!r} is not installed on this machine; install it with: "
                    f"{_pull_command(entry)}"
                )
            remedy = _pull_command(self.catalogue[part])
            paths.append(self._verified_path(part, usable, remedy))
        return paths[-1]

    def _verified_path(self, name: str, usable: UsableFile, remedy: str) -> Path:
        """Return the path of a file that is there, hashed unless it was before, as it is now."""
        stat = usable.path.stat()
        key = (usable.path, stat.st_mtime_ns, stat.st_size)
        if key not in self._verified:
            self._verify(name, usable, remedy)
            self._verified.add(key)
            if usable.reason:
                _log.warning("%s is used as it was published: %s", name, usable.reason)
        return usable.path

    def _verify(self, name: str, usable: UsableFile, remedy: str) -> None:
        found = sha256_of(usable.path)
        if found == usable.sha256:
            return
        moved = quarantine(usable.path, self.cache)
        where = f"it was moved to {moved}" if moved else f"it could not be moved from {usable.path}"
        raise ModelIntegrityError(
            f"the file of model {name!r} is corrupt (its sha256 is {found}, expected "
            f"{usable.sha256}); {where}; fetch it again with: {remedy}"
        )


def _pull_command(entry: ModelEntry) -> str:
    consent = "" if entry.licence.commercial_use else " --accept-licence"
    return f"cl-serve models pull {entry.name}{consent}"
