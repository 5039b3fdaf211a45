"""The store's ``fetch``: what is asked for a model that this machine lacks, and when."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deployments.runtime.errors import ModelDownloadError, ModelNotInstalledError
from deployments.runtime.models import ModelStore

CONTENT = b"the weights" * 1000


@pytest.fixture
def store(
    tmp_path: Path,
    make_store: Callable[..., ModelStore],
    make_entry: Callable[..., dict[str, Any]],
) -> ModelStore:
    """A store that lacks its one model, whose source is a local file."""
    (tmp_path / "a.onnx").write_bytes(CONTENT)
    return make_store({"a": make_entry(CONTENT, {"file": {"path": "a.onnx"}})})


def install(store: ModelStore, name: str) -> None:
    """Fetch it from its source."""
    store.pull(name)


def do_nothing(_store: ModelStore, _name: str) -> None:
    """Have nowhere to ask."""


def fail(_store: ModelStore, _name: str) -> None:
    """Find nobody who has it."""
    raise ModelDownloadError("the head lacks it")


def test_missing_model_is_fetched(store: ModelStore) -> None:
    """A model that is missing is fetched, and its path is verified like any other."""
    store.fetch = install
    assert CONTENT == store.path("a").read_bytes()


def test_installed_model_is_not_fetched(store: ModelStore) -> None:
    """Nobody is asked for a model that is here."""
    store.pull("a")
    store.fetch = fail
    assert CONTENT == store.path("a").read_bytes()


def test_nothing_fetched(store: ModelStore) -> None:
    """Where nothing came, the model is as missing as without a fetch."""
    store.fetch = do_nothing
    with pytest.raises(ModelNotInstalledError, match=r"models pull a$"):
        store.path("a")


def test_failed_fetch(store: ModelStore) -> None:
    """The error of a failed fetch still says that the model is not installed, and why."""
    store.fetch = fail
    with pytest.raises(ModelNotInstalledError, match=r"models pull a \(the head lacks it\)$"):
        store.path("a")


def test_default_cache_is_that_of_the_machine(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A store that crosses to another machine uses the default folder there."""
    crossing = pickle.dumps(ModelStore(store.catalogue))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "theirs"))
    there: ModelStore = pickle.loads(crossing)  # noqa: S301 - made in this test
    assert tmp_path / "theirs" / "cl-ml-serve" / "models" == there.cache
