"""The store without a network: verified paths, states, quarantine, export and import."""

import hashlib
import io
import json
import pickle
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import deployments
from deployments.runtime.errors import (
    ModelIntegrityError,
    ModelLicenceError,
    ModelNotInstalledError,
    UnknownModelError,
)
from deployments.runtime.models import ModelStatus, ModelStore, default_cache_folder

CONTENT = b"the weights" * 1000

MakeEntry = Callable[..., dict[str, Any]]
MakeStore = Callable[..., ModelStore]


@pytest.fixture
def entries(tmp_path: Path, make_entry: MakeEntry) -> dict[str, Any]:
    """Two entries, one free and one for research only, whose sources are local files."""
    (tmp_path / "a.onnx").write_bytes(CONTENT)
    (tmp_path / "b.onnx").write_bytes(CONTENT + b"b")
    bound = make_entry(CONTENT + b"b", {"file": {"path": "b.onnx"}})
    bound["licence"]["commercial_use"] = False
    return {"a": make_entry(CONTENT, {"file": {"path": "a.onnx"}}), "b": bound}


@pytest.fixture
def store(make_store: MakeStore, entries: dict[str, Any]) -> ModelStore:
    """A store with both entries installed."""
    store = make_store(entries)
    store.pull("a")
    store.pull("b", accept_licence=True)
    return store


def test_path(store: ModelStore) -> None:
    """An installed model's path holds its content."""
    assert CONTENT == store.path("a").read_bytes()


def test_path_of_unknown_model(store: ModelStore) -> None:
    """A name outside the catalogue is refused."""
    with pytest.raises(UnknownModelError):
        store.path("c")


def test_path_of_missing_model(make_store: MakeStore, entries: dict[str, Any]) -> None:
    """A model that is not installed names the command that installs it."""
    store = make_store(entries)
    with pytest.raises(ModelNotInstalledError, match=r"cl-serve models pull a$"):
        store.path("a")
    with pytest.raises(ModelNotInstalledError, match=r"cl-serve models pull b --accept-licence$"):
        store.path("b")


@pytest.mark.usefixtures("no_network")
def test_path_needs_no_network(store: ModelStore) -> None:
    """Serving never touches the network."""
    store.path("a")


def test_corrupt_file_is_quarantined(store: ModelStore) -> None:
    """A changed file is moved aside, and the message tells where to and what to do."""
    path = store.path("a")
    path.write_bytes(b"tampered")
    assert ModelStatus.CORRUPT is store.status("a")
    with pytest.raises(ModelIntegrityError, match="cl-serve models pull a") as caught:
        store.path("a")
    [kept] = (store.cache / "quarantine").iterdir()
    assert str(kept) in str(caught.value)
    assert b"tampered" == kept.read_bytes()
    assert ModelStatus.NOT_INSTALLED is store.status("a")


def test_pull_replaces_corrupt_file(store: ModelStore) -> None:
    """Pulling a model whose file is corrupt fetches it again."""
    store.path("a").write_bytes(b"tampered")
    assert CONTENT == store.pull("a").read_bytes()
    assert 1 == len(list((store.cache / "quarantine").iterdir()))


def test_verify(store: ModelStore) -> None:
    """Verification tells the state of every model, in the catalogue's order."""
    store.path("b").unlink()
    expected = {"a": ModelStatus.INSTALLED, "b": ModelStatus.NOT_INSTALLED}
    assert expected == store.verify()


def test_licence_needs_consent(make_store: MakeStore, entries: dict[str, Any]) -> None:
    """A licence without commercial use is refused until it is accepted."""
    store = make_store(entries)
    with pytest.raises(ModelLicenceError, match="--accept-licence"):
        store.pull("b")
    assert ModelStatus.NOT_INSTALLED is store.status("b")


def test_store_pickles(store: ModelStore) -> None:
    """A store crosses a process boundary."""
    copy: ModelStore = pickle.loads(pickle.dumps(store))  # noqa: S301 - made in this line
    assert store.path("a") == copy.path("a")


def test_store_imports_no_downloader() -> None:
    """A process that only serves keeps the download clients and the converter out of memory."""
    code = "import sys, deployments.runtime.models; print(*sys.modules, sep='\\n')"
    root = Path(deployments.__file__).parents[1]
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=root, check=True, capture_output=True, text=True
    )
    assert set() == {"httpx2", "tenacity", "onnx", "onnxruntime"} & set(loaded.stdout.split())


@pytest.mark.parametrize(("value", "root"), [("/c", "/c"), ("", "/h/.cache"), ("c", "/h/.cache")])
def test_default_cache_folder(monkeypatch: pytest.MonkeyPatch, value: str, root: str) -> None:
    """The cache follows the XDG standard, which has relative paths ignored."""
    monkeypatch.setenv("XDG_CACHE_HOME", value)
    monkeypatch.setenv("HOME", "/h")
    assert Path(root, "cl-ml-serve", "models") == default_cache_folder()


def test_export_import(
    tmp_path: Path, store: ModelStore, make_store: MakeStore, entries: dict[str, Any]
) -> None:
    """What one machine exports another one imports, with the network off."""
    file = tmp_path / "models.tar"
    store.export(["a", "b"], file)
    other = make_store(entries, cache="other", offline=True)
    assert ("a", "b") == other.import_(file, accept_licence=True)
    assert CONTENT == other.path("a").read_bytes()
    assert CONTENT + b"b" == other.path("b").read_bytes()


def test_export_is_repeatable(tmp_path: Path, store: ModelStore) -> None:
    """The same models give the same tar file."""
    store.export(["a"], tmp_path / "1.tar")
    store.export(["a"], tmp_path / "2.tar")
    assert (tmp_path / "1.tar").read_bytes() == (tmp_path / "2.tar").read_bytes()


def test_export_of_missing_model(
    tmp_path: Path, make_store: MakeStore, entries: dict[str, Any]
) -> None:
    """Exporting what is not installed is refused and leaves no file."""
    with pytest.raises(ModelNotInstalledError):
        make_store(entries).export(["a"], tmp_path / "models.tar")
    assert not (tmp_path / "models.tar").exists()


def test_import_needs_consent(
    tmp_path: Path, store: ModelStore, make_store: MakeStore, entries: dict[str, Any]
) -> None:
    """A tar file does not get around a licence; nothing of it is installed without consent."""
    store.export(["a", "b"], tmp_path / "models.tar")
    other = make_store(entries, cache="other")
    with pytest.raises(ModelLicenceError, match="b "):
        other.import_(tmp_path / "models.tar")
    assert ModelStatus.NOT_INSTALLED is other.status("a")


@pytest.fixture
def needing(make_store: MakeStore, entries: dict[str, Any]) -> ModelStore:
    """A store in which ``a`` needs ``b``, with nothing installed."""
    entries["a"]["needs"] = ["b"]
    return make_store(entries, cache="needing")


def test_pull_brings_what_is_needed(needing: ModelStore) -> None:
    """What a model needs is pulled before it, once, and under its own licence."""
    refused = needing.pull_many(["a"])
    assert isinstance(refused["b"], ModelLicenceError)
    results = needing.pull_many(["a", "b"], accept_licence=True)
    assert ["b", "a"] == list(results)
    assert results["a"] == needing.path("a")


def test_path_needs_what_is_needed(needing: ModelStore) -> None:
    """A model without what it needs can't be used; the command is the one that brings both."""
    needing.pull("a", accept_licence=True)
    needing.path("b").unlink()
    with pytest.raises(ModelNotInstalledError, match=r"'b' is not installed.*models pull a$"):
        needing.path("a")


def test_export_has_what_is_needed(
    tmp_path: Path, needing: ModelStore, make_store: MakeStore, entries: dict[str, Any]
) -> None:
    """A model travels with what it needs."""
    needing.pull("a", accept_licence=True)
    needing.export(["a"], tmp_path / "models.tar")
    other = make_store(entries, cache="other", offline=True)
    assert ("b", "a") == other.import_(tmp_path / "models.tar", accept_licence=True)
    assert CONTENT == other.path("a").read_bytes()


def write_tar(path: Path, members: dict[str, bytes | tarfile.TarInfo]) -> None:
    """Write a tar file of members as they are given."""
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                tar.addfile(content)
                continue
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def link(name: str, target: str) -> tarfile.TarInfo:
    """Make a symbolic link for a tar file."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, target
    return info


MANIFEST = json.dumps({"format": 1, "models": {"a": {}}}).encode()


@pytest.mark.parametrize(
    ("members", "told"),
    [
        ({}, "manifest.json is missing"),
        ({"manifest.json": b"{"}, "unusable"),
        ({"manifest.json": b"[]"}, "unusable"),
        ({"manifest.json": b'{"format": 2, "models": {}}'}, "format 2, expected 1"),
        ({"manifest.json": link("manifest.json", "/etc/passwd")}, "unusable"),
        ({"manifest.json": MANIFEST}, "has no files/a/a.onnx"),
        ({"manifest.json": MANIFEST, "files/a/a.onnx": b"x" * len(CONTENT)}, "was altered"),
        ({"manifest.json": MANIFEST, "files/a/a.onnx": CONTENT + b"x"}, "expected at most"),
        (
            {"manifest.json": MANIFEST, "files/a/a.onnx": link("files/a/a.onnx", "/etc/passwd")},
            "expected at most",
        ),
    ],
)
def test_import_of_tampered_file(
    tmp_path: Path,
    make_store: MakeStore,
    entries: dict[str, Any],
    members: dict[str, bytes | tarfile.TarInfo],
    told: str,
) -> None:
    """Whatever is wrong with a tar file, it is refused and nothing takes a model's place."""
    store = make_store(entries)
    write_tar(tmp_path / "models.tar", members)
    with pytest.raises(ModelIntegrityError, match=told):
        store.import_(tmp_path / "models.tar")
    assert ModelStatus.NOT_INSTALLED is store.status("a")
    assert [] == [path for path in store.cache.rglob("*") if path.is_file()]


def test_import_of_other_files(
    tmp_path: Path, make_store: MakeStore, entries: dict[str, Any]
) -> None:
    """A file that is no tar file, or none at all, is refused by name."""
    store = make_store(entries)
    (tmp_path / "noise").write_bytes(hashlib.sha512(b"").digest() * 100)
    for name in ("noise", "absent"):
        with pytest.raises(ModelIntegrityError, match=name):
            store.import_(tmp_path / name)


def test_import_of_unknown_model(
    tmp_path: Path, make_store: MakeStore, entries: dict[str, Any]
) -> None:
    """A tar file with a model that the catalogue does not have is refused."""
    manifest = json.dumps({"format": 1, "models": {"../a": {}}}).encode()
    write_tar(tmp_path / "models.tar", {"manifest.json": manifest})
    with pytest.raises(UnknownModelError, match=r"'\.\./a'"):
        make_store(entries).import_(tmp_path / "models.tar")
