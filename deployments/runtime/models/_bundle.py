"""Models in one tar file, to carry to a machine without a network.

``manifest.json`` comes first, then ``files/NAME/FILE`` for each model. The manifest only says what
to expect; the sha256 that decides is the catalogue's on the importing machine. Members are read as
plain streams into the cache's own places, never unpacked to a path that the tar file names.
"""

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

from deployments.runtime.atomic import atomic_write
from deployments.runtime.errors import ModelIntegrityError, ModelLicenceError
from deployments.runtime.models._catalogue import Catalogue
from deployments.runtime.models._entry import ModelEntry
from deployments.runtime.models._files import (
    CHUNK_BYTES,
    MAX_MEMBER_BYTES,
    disk_full_explained,
    sha256_of,
)
from deployments.runtime.models._layout import CacheLayout

FORMAT = 1
MANIFEST = "manifest.json"
MAX_MANIFEST_BYTES = 1 << 20


def write(file: Path, models: list[tuple[ModelEntry, Path]]) -> None:
    """Write the models' files to a tar file, the same bytes for the same models.

    Raises:
        ModelDownloadError: the file can't be written.

    """
    manifest = {
        "format": FORMAT,
        "models": {
            entry.name: {
                "file": _member(entry),
                "sha256": entry.usable_sha256,
                "title": entry.title,
                "licence": entry.licence.id,
                "licence_url": entry.licence.url,
            }
            for entry, _ in models
        },
    }
    content = json.dumps(manifest, indent=2).encode()
    with (
        disk_full_explained(file.absolute().parent),
        atomic_write(file.absolute()) as target,
        tarfile.open(fileobj=target, mode="w") as tar,
    ):
        tar.addfile(_info(MANIFEST, len(content)), io.BytesIO(content))
        for entry, path in models:
            with path.open("rb") as reader:
                tar.addfile(_info(_member(entry), path.stat().st_size), reader)


def read(
    file: Path, catalogue: Catalogue, layout: CacheLayout, *, accept_licence: bool
) -> tuple[str, ...]:
    """Install the models of a tar file into the cache; see ``ModelStore.import_``."""
    try:
        with tarfile.open(file, mode="r:") as tar, disk_full_explained(layout.folder):
            names = _names(file, tar)
            entries = [catalogue[name] for name in names]
            _require_consent(entries, accept_licence=accept_licence)
            for entry in entries:
                _install(file, tar, entry, layout)
    except FileNotFoundError as error:
        raise ModelIntegrityError(f"{file}: no such file") from error
    except (tarfile.TarError, EOFError) as error:
        raise ModelIntegrityError(f"{file} is not a tar file of models: {error}") from error
    return names


def _names(file: Path, tar: tarfile.TarFile) -> tuple[str, ...]:
    try:
        info = tar.getmember(MANIFEST)
        reader = tar.extractfile(info) if info.isreg() else None
        if reader is None or info.size > MAX_MANIFEST_BYTES:
            raise ValueError("it is too large or not a file")  # noqa: TRY301 - told with the others
        manifest: Any = json.loads(reader.read())
        if manifest["format"] != FORMAT:
            raise ValueError(f"format {manifest['format']!r}, expected {FORMAT}")  # noqa: TRY301 - told with the others
        return tuple(str(name) for name in manifest["models"])
    except (KeyError, TypeError, ValueError) as error:
        raise ModelIntegrityError(f"{file}: {MANIFEST} is missing or unusable: {error}") from error


def _require_consent(entries: list[ModelEntry], *, accept_licence: bool) -> None:
    bound = [entry for entry in entries if not entry.licence.commercial_use]
    if bound and not accept_licence:
        listed = ", ".join(f"{e.name} ({e.licence.id}, {e.licence.url})" for e in bound)
        raise ModelLicenceError(
            f"these models permit no commercial use: {listed}; read their licences and, if you "
            "agree to them, import with --accept-licence"
        )


def _install(file: Path, tar: tarfile.TarFile, entry: ModelEntry, layout: CacheLayout) -> None:
    target = layout.usable(entry)
    if target.is_file() and sha256_of(target) == entry.usable_sha256:
        return
    try:
        info = tar.getmember(_member(entry))
    except KeyError:
        raise ModelIntegrityError(f"{file} has no {_member(entry)}") from None
    reader = tar.extractfile(info) if info.isreg() else None
    limit_bytes = entry.usable_size_bytes or MAX_MEMBER_BYTES
    if reader is None or info.size > limit_bytes:
        raise ModelIntegrityError(
            f"{file}: {info.name} is {info.size} bytes, expected at most {limit_bytes}"
        )
    with atomic_write(target) as writer:
        digest = hashlib.sha256()
        while chunk := reader.read(CHUNK_BYTES):
            digest.update(chunk)
            writer.write(chunk)
        # Inside the block: an error here keeps the wrong content from ever taking its place.
        found = digest.hexdigest()
        if found != entry.usable_sha256:
            raise ModelIntegrityError(
                f"{file}: {info.name} has sha256 {found}, expected {entry.usable_sha256}; "
                "the file was altered or is of another catalogue"
            )


def _member(entry: ModelEntry) -> str:
    return f"files/{entry.name}/{entry.usable_filename}"


def _info(name: str, size_bytes: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size = size_bytes
    info.mode = 0o644
    return info
