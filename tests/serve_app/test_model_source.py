"""Models from the head: what arrives is installed, and what to do where nothing does."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployments.runtime.errors import ModelDownloadError, ModelError
from deployments.runtime.models import ModelStatus, ModelStore, load_catalogue
from serve_app.model_source import export_chunks, fetch_from_cluster, install

CONTENT = b"the weights" * 1000


def entry(content: bytes, name: str, *, free: bool) -> dict[str, Any]:
    """Describe a model whose source is a file beside the catalogue."""
    return {
        "title": "A model",
        "licence": {"id": "X", "commercial_use": free, "url": "https://example.org"},
        "sources": [{"file": {"path": name}}],
        "sha256": hashlib.sha256(content).hexdigest(),
        "size_bytes": len(content),
    }


@pytest.fixture
def catalogue(tmp_path: Path) -> Path:
    """A catalogue of a free model and of one that needs consent; the sources are not there yet."""
    file = tmp_path / "catalogue.yaml"
    entries = {
        "free": entry(CONTENT, "free.onnx", free=True),
        "bound": entry(CONTENT + b"b", "bound.onnx", free=False),
    }
    file.write_text(yaml.safe_dump({"entries": entries}))
    return file


@pytest.fixture
def head(catalogue: Path, tmp_path: Path) -> ModelStore:
    """The head's store, with both models installed."""
    store = ModelStore(load_catalogue(catalogue), tmp_path / "head")
    sources = {"free": CONTENT, "bound": CONTENT + b"b"}
    for name, content in sources.items():
        (tmp_path / f"{name}.onnx").write_bytes(content)
        store.pull(name, accept_licence=True)
        (tmp_path / f"{name}.onnx").unlink()
    return store


@pytest.fixture
def node(catalogue: Path, tmp_path: Path) -> ModelStore:
    """A node's store, with nothing installed."""
    return ModelStore(load_catalogue(catalogue), tmp_path / "node")


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """A folder for what arrives."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


def nobody() -> Iterator[bytes | ModelError]:
    """Answer like a head that lacks the model."""
    yield ModelDownloadError("the head lacks it")


@pytest.mark.parametrize("name", ["free", "bound"])
def test_from_head(head: ModelStore, node: ModelStore, scratch: Path, name: str) -> None:
    """What the head has arrives whole; its consent to a licence counts for the node as well."""
    said = install(node, name, scratch, export_chunks(head, name))
    assert "installed from the head" in str(said)
    assert head.path(name).read_bytes() == node.path(name).read_bytes()


def test_in_pieces(
    head: ModelStore, node: ModelStore, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that is larger than a piece comes in several."""
    monkeypatch.setattr("serve_app.model_source.CHUNK_BYTES", 4096)
    pieces = list(export_chunks(head, "free"))
    assert len(pieces) > 2
    install(node, "free", scratch, iter(pieces))
    assert CONTENT == node.path("free").read_bytes()


def test_from_publisher(tmp_path: Path, node: ModelStore, scratch: Path) -> None:
    """Where the head lacks a free model, its publisher is asked."""
    (tmp_path / "free.onnx").write_bytes(CONTENT)
    assert "from its publisher" in str(install(node, "free", scratch, nobody()))
    assert CONTENT == node.path("free").read_bytes()


@pytest.mark.parametrize(("name", "reason"), [("free", "no such file"), ("bound", "licensed")])
def test_from_nobody(node: ModelStore, scratch: Path, name: str, reason: str) -> None:
    """Where the publisher has it not either, or wants consent, both reasons are given."""
    said = install(node, name, scratch, nobody())
    assert isinstance(said, ModelDownloadError)
    assert "the head lacks it" in str(said)
    assert reason in str(said)


def test_falsified(head: ModelStore, node: ModelStore, scratch: Path) -> None:
    """A file that is not what the catalogue names is not installed."""
    sent = b"".join(chunk for chunk in export_chunks(head, "bound") if isinstance(chunk, bytes))
    said = install(node, "bound", scratch, iter([sent.replace(b"weights", b"weighty")]))
    assert "sha256" in str(said)
    assert ModelStatus.NOT_INSTALLED is node.status("bound")


def test_installed_meanwhile(head: ModelStore, scratch: Path) -> None:
    """A process that waited for another one's transfer transfers nothing itself."""
    assert "another process" in str(install(head, "free", scratch, nobody()))


def test_head_without_it(node: ModelStore) -> None:
    """A head that lacks a model says so, and nothing else."""
    (said,) = export_chunks(node, "free")
    assert isinstance(said, ModelError)


def test_without_a_cluster(node: ModelStore) -> None:
    """Outside of a cluster there is nobody to ask."""
    node.fetch = fetch_from_cluster
    fetch_from_cluster(node, "free")
    assert ModelStatus.NOT_INSTALLED is node.status("free")
