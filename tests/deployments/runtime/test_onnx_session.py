"""OnnxSession on small graphs: batches of any size, fixed and free, and its refusals."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, save_model

from deployments.runtime.errors import ConfigError, ModelIntegrityError
from deployments.runtime.onnx_session import AUTO_ORDER, PROVIDERS, OnnxSession

Make = Callable[..., Path]


@pytest.fixture
def make_graph(tmp_path: Path) -> Make:
    """Write a graph that gives 2x and the row sums of x; ``batch`` None is a free batch."""

    def make(batch: int | None = None, *, inputs: int = 1) -> Path:
        size = "N" if batch is None else batch
        names = [f"x{i}" for i in range(inputs)]
        graph = helper.make_graph(
            [
                helper.make_node("Add", ["x0", names[-1]], ["double"]),
                helper.make_node("ReduceSum", ["x0"], ["sum"], axes=[1], keepdims=1),
            ],
            "g",
            [helper.make_tensor_value_info(n, TensorProto.FLOAT, [size, 3]) for n in names],
            [
                helper.make_tensor_value_info("double", TensorProto.FLOAT, [size, 3]),
                helper.make_tensor_value_info("sum", TensorProto.FLOAT, [size, 1]),
            ],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=6)
        path = tmp_path / "g.onnx"
        save_model(model, path)
        return path

    return make


@pytest.mark.parametrize("batch", [None, 1, 2, 4])
@pytest.mark.parametrize("rows", [0, 1, 2, 3, 5])
def test_any_batch(make_graph: Make, batch: int | None, rows: int) -> None:
    """Callers always batch, whatever batch the graph is made for, none at all included."""
    x = np.arange(rows * 3, dtype=np.float32).reshape(rows, 3)
    double, total = OnnxSession(make_graph(batch)).run(x)
    np.testing.assert_array_equal(2 * x, double)
    np.testing.assert_array_equal(x.sum(axis=1, keepdims=True), total)
    assert (np.float32, np.float32) == (double.dtype, total.dtype)


@pytest.mark.parametrize("batch", [None, 1])
def test_facts(make_graph: Make, batch: int | None) -> None:
    """A session tells its graph's names, shapes and provider."""
    session = OnnxSession(make_graph(batch), provider="cpu")
    assert "cpu" == session.provider
    assert "x0" == session.input_name
    assert (batch, 3) == session.input_shape
    assert np.float32 is session.input_dtype
    assert ("double", "sum") == session.output_names
    assert ((batch, 3), (batch, 1)) == session.output_shapes


@pytest.mark.parametrize(
    ("x", "told"),
    [
        (np.zeros((2, 4), np.float32), r"expected \('N', 3\) float32, got \(2, 4\) float32"),
        (np.zeros(3, np.float32), r"got \(3,\) float32"),
        (np.zeros((2, 3)), "got .* float64"),
    ],
)
def test_wrong_batch(make_graph: Make, x: np.ndarray, told: str) -> None:
    """A batch of another shape or type is refused with what was expected and what came."""
    with pytest.raises(ValueError, match=told):
        OnnxSession(make_graph()).run(x)


def test_warm_up(make_graph: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Warming up runs each of the batch sizes."""
    session = OnnxSession(make_graph())
    shapes: list[tuple[int, ...]] = []
    monkeypatch.setattr(session, "run", lambda x: shapes.append(x.shape))
    session.warm_up((1, 4))
    assert [(1, 3), (4, 3)] == shapes


def test_auto_falls_back_to_cpu(make_graph: Make) -> None:
    """A node with nothing better uses its CPU."""
    session = OnnxSession(make_graph())
    assert session.provider in AUTO_ORDER


def test_unknown_provider(make_graph: Make) -> None:
    """A provider that does not exist is refused with those that do."""
    with pytest.raises(ConfigError, match=r"'gpu' is unknown; expected one of auto, cpu"):
        OnnxSession(make_graph(), provider="gpu")


def test_absent_provider(make_graph: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider that this node does not have is refused with those that it has."""
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CPUExecutionProvider"])
    told = "'cuda' is not available on this node; expected one of auto, cpu$"
    with pytest.raises(ConfigError, match=told):
        OnnxSession(make_graph(), provider="cuda")


@pytest.mark.filterwarnings("ignore:Specified provider:UserWarning")
def test_provider_without_device(make_graph: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider whose device is missing is refused by name, and passed over by auto."""
    installed = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(ort, "get_available_providers", lambda: installed)
    with pytest.raises(ConfigError, match="'cuda' is in this node's ONNX Runtime but could not"):
        OnnxSession(make_graph(), provider="cuda")
    assert "cpu" == OnnxSession(make_graph()).provider


def test_wrong_threads(make_graph: Make) -> None:
    """A number of threads below one is refused."""
    with pytest.raises(ConfigError, match="num_threads: expected at least 1, got 0"):
        OnnxSession(make_graph(), num_threads=0)


def test_not_a_graph(tmp_path: Path) -> None:
    """A file that is no ONNX graph is an error that names it."""
    (tmp_path / "g.onnx").write_bytes(b"noise")
    with pytest.raises(ModelIntegrityError, match=r"g\.onnx can't be loaded"):
        OnnxSession(tmp_path / "g.onnx")


def test_two_inputs(make_graph: Make) -> None:
    """A graph with more than one input is refused."""
    with pytest.raises(ModelIntegrityError, match=r"expected a graph with one input, got \['x0'"):
        OnnxSession(make_graph(inputs=2))


def test_provider_names() -> None:
    """What auto may pick can also be asked for by name."""
    assert set(AUTO_ORDER) <= set(PROVIDERS)
