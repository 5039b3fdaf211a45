"""Conversions that each machine does for itself, and does without where they fail."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from benchmarks.stand_ins.dinov2 import dinov2
from deployments.runtime.errors import ModelIntegrityError, ModelLicenceError
from deployments.runtime.models import ModelStatus, ModelStore, _convert
from deployments.runtime.onnx_session import OnnxSession

MakeEntry = Callable[..., dict[str, Any]]
MakeStore = Callable[..., ModelStore]


@pytest.fixture
def entry(tmp_path: Path, make_entry: MakeEntry) -> dict[str, Any]:
    """A vision transformer with its batch fixed at 1, converted where it is installed."""
    source = dinov2(blocks=1, mlp_width=16).SerializeToString()
    (tmp_path / "vit.onnx").write_bytes(source)
    return make_entry(
        source,
        {"file": {"path": "vit.onnx"}},
        convert={"steps": [{"step": "dynamic_batch"}, {"step": "canonical"}]},
        contract={
            "input": {"name": "input", "shape": [None, 3, 224, 224], "layout": "NCHW"},
            "outputs": [{"name": "output", "shape": [None, 384]}],
        },
    )


@pytest.fixture
def store(make_store: MakeStore, entry: dict[str, Any]) -> ModelStore:
    """A store with the model installed."""
    store = make_store({"a": entry})
    store.pull("a")
    return store


@pytest.fixture
def failing(make_store: MakeStore, entry: dict[str, Any]) -> ModelStore:
    """A store whose model has a step that fails."""
    entry["convert"]["steps"].insert(0, {"step": "prelu_as_depthwise"})
    return make_store({"a": entry})


def batch_of(path: Path) -> int | None:
    """Return the batch that a graph takes; None when it is free."""
    return OnnxSession(path, provider="cpu").input_shape[0]


def test_converted(store: ModelStore, tmp_path: Path) -> None:
    """The result takes any number of rows, and gives for each what the source gives."""
    path = store.path("a")
    assert path == store.pull("a")
    assert None is batch_of(path)
    x = np.random.default_rng(0).normal(size=(2, 3, 224, 224)).astype(np.float32)
    (expected,) = OnnxSession(tmp_path / "vit.onnx", provider="cpu").run(x)
    (got,) = OnnxSession(path, provider="cpu").run(x)
    np.testing.assert_allclose(got, expected, atol=1e-4)
    assert ModelStatus.INSTALLED is store.status("a")


def test_converted_once(store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that was converted here is not converted again."""
    monkeypatch.setattr("deployments.runtime.models._pull.convert", lambda *_: pytest.fail("again"))
    assert store.path("a") == store.pull("a")


def test_tampered(store: ModelStore) -> None:
    """A changed result is moved aside; until it is pulled again the published file is used."""
    path = store.path("a")
    path.write_bytes(b"tampered")
    assert ModelStatus.CORRUPT is store.status("a")
    with pytest.raises(ModelIntegrityError, match="cl-serve models pull a"):
        store.path("a")
    assert not path.exists()
    assert 1 == batch_of(store.path("a"))
    assert path == store.pull("a")
    assert None is batch_of(store.path("a"))


@pytest.mark.parametrize("content", ["", "{", '{"steps": []}', '{"steps": [], "reason": "x"}'])
def test_unusable_record(store: ModelStore, content: str) -> None:
    """Without a record of these very steps the published file is used, until the next pull."""
    path = store.path("a")
    path.with_suffix(".json").write_text(content)
    assert 1 == batch_of(store.path("a"))
    assert path == store.pull("a")
    assert path == store.path("a")


def test_failing_step(failing: ModelStore, caplog: pytest.LogCaptureFixture) -> None:
    """Where a step fails the published file is used, and its user is told why."""
    told = "a: prelu_as_depthwise: the graph has no PReLU"
    with caplog.at_level(logging.WARNING):
        path = failing.pull("a")
        assert path == failing.path("a")
    assert 1 == batch_of(path)
    # Once each, however many handlers a test before this one has left on the logger.
    messages = {record.message for record in caplog.records}
    assert [True, True] == [told in message for message in messages]
    (x,) = OnnxSession(path, provider="cpu").run(np.zeros((3, 3, 224, 224), np.float32))
    assert (3, 384) == x.shape


def test_failure_is_remembered(failing: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps that failed once are not tried again at every start."""
    failing.pull("a")
    monkeypatch.setattr("deployments.runtime.models._pull.convert", lambda *_: pytest.fail("again"))
    failing.pull("a")


def test_different_result(
    make_store: MakeStore, entry: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A result that does not give what the source gives is not taken."""

    def spoil(model: onnx.ModelProto) -> onnx.ModelProto:
        spoilt = onnx.ModelProto.FromString(model.SerializeToString())
        weight = next(t for t in spoilt.graph.initializer if len(t.dims) == 4)  # the patches'
        weight.raw_data = bytes(len(weight.raw_data))
        return spoilt

    monkeypatch.setitem(_convert._REWRITES, "dynamic_batch", spoil)
    store = make_store({"a": entry})
    assert 1 == batch_of(store.pull("a"))
    assert "changes the output" in next(store.cache.rglob("*.local.json")).read_text()


@pytest.mark.usefixtures("store")
def test_new_steps(make_store: MakeStore, entry: dict[str, Any]) -> None:
    """A catalogue with other steps converts anew, and needs no consent for a file that is here."""
    entry["convert"]["steps"][0]["args"] = {"symbol": "batch"}
    entry["licence"]["commercial_use"] = False
    newer = make_store({"a": entry})
    assert 1 == batch_of(newer.path("a"))
    model = onnx.load_model(newer.pull("a"))
    assert "batch" == model.graph.input[0].type.tensor_type.shape.dim[0].dim_param


def test_export_and_import(
    tmp_path: Path, store: ModelStore, make_store: MakeStore, entry: dict[str, Any]
) -> None:
    """The published file travels, since its hash is known, and the other machine converts it."""
    store.export(["a"], tmp_path / "models.tar")
    (tmp_path / "vit.onnx").unlink()
    other = make_store({"a": entry}, cache="other", offline=True)
    assert ("a",) == other.import_(tmp_path / "models.tar")
    assert None is batch_of(other.path("a"))


def test_consent(make_store: MakeStore, entry: dict[str, Any]) -> None:
    """A file that is not here yet needs consent like any other."""
    entry["licence"]["commercial_use"] = False
    with pytest.raises(ModelLicenceError):
        make_store({"a": entry}).pull("a")
