"""Conversion: the graph rewrites on small graphs, and the repeatable bytes."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from benchmarks.stand_ins.dinov2 import dinov2
from deployments.runtime.errors import ModelConversionError
from deployments.runtime.models import ModelStatus, ModelStore
from deployments.runtime.models._rewrites import canonical, dynamic_batch

CHANNELS = 4

MakeEntry = Callable[..., dict[str, Any]]
MakeStore = Callable[..., ModelStore]


def small_model(*, batch: int = 2) -> onnx.ModelProto:
    """Build what tflite2onnx writes: a PReLU of five ops, a Resize by sizes, a fixed Reshape."""
    rng = np.random.default_rng(1)
    constants = {
        "factors": rng.uniform(-5, 5, CHANNELS).astype(np.float32),
        "factors_shape": np.array([1, CHANNELS, 1, 1], np.int64),
        "none": np.array([], np.float32),
        "sizes": np.array([batch, CHANNELS, 6, 6], np.int64),
        "out_shape": np.array([batch, CHANNELS * 36], np.int64),
        "unused": np.array([1], np.float32),
    }
    nodes = [
        helper.make_node("Relu", ["x"], ["relu"]),
        helper.make_node("Abs", ["x"], ["abs"]),
        helper.make_node("Sub", ["x", "abs"], ["minus"]),
        helper.make_node("Reshape", ["factors", "factors_shape"], ["factors4"]),
        helper.make_node("Mul", ["factors4", "minus"], ["negative"]),
        helper.make_node("Add", ["relu", "negative"], ["prelu"]),
        helper.make_node("Resize", ["prelu", "none", "none", "sizes"], ["large"], mode="linear"),
        helper.make_node("Reshape", ["large", "out_shape"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, CHANNELS, 3, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, CHANNELS * 36])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    opset = helper.make_opsetid("", 11)
    return helper.make_model(graph, opset_imports=[opset], ir_version=6)


def run(
    model: onnx.ModelProto, x: NDArray[np.float32], input_name: str = "x"
) -> NDArray[np.float32]:
    """Run a model of one input and one output."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return np.asarray(session.run(None, {input_name: x})[0])


def noise(batch: int) -> NDArray[np.float32]:
    """Return seeded input for ``small_model``."""
    return np.random.default_rng(2).normal(size=(batch, CHANNELS, 3, 3)).astype(np.float32)


def ops(model: onnx.ModelProto) -> list[str]:
    """Return the sorted op types of a model."""
    return sorted(node.op_type for node in model.graph.node)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("rows", [1, 2, 5])
def test_dynamic_batch(batch: int, rows: int) -> None:
    """Any number of rows gives what the fixed graph gives for them one by one."""
    before = small_model(batch=batch)
    after = canonical(dynamic_batch(before))
    x = noise(rows)
    singles = [run(before, np.repeat(x[i : i + 1], batch, axis=0))[:1] for i in range(rows)]
    np.testing.assert_allclose(run(after, x), np.concatenate(singles), rtol=1e-6)
    assert "N" == after.graph.output[0].type.tensor_type.shape.dim[0].dim_param


def test_dynamic_batch_refuses_inexact_scale() -> None:
    """A Resize whose ratio float32 can't hold is refused instead of shifted."""
    model = small_model()
    for tensor in model.graph.initializer:
        if tensor.name == "sizes":
            tensor.CopyFrom(numpy_helper.from_array(np.array([2, CHANNELS, 7, 7]), "sizes"))
    with pytest.raises(ModelConversionError, match="no exact scale"):
        dynamic_batch(model)


def transformer(token: str) -> onnx.ModelProto:
    """Build what torch writes of a vision transformer with a batch of 1: class token, attention.

    ``token`` says how the class token comes: as a constant, expanded to a constant shape, or
    expanded to a shape that is computed from constants, as ``Tensor.expand`` is written.
    """
    rng = np.random.default_rng(3)
    constants = {
        "token": rng.normal(size=(1, 1, 4)),
        "position": rng.normal(size=(1, 10, 4)),
        "qkv": rng.normal(size=(4, 12)),
    }
    make = helper.make_node
    integers = {
        "flat": [1, 4, 9],
        "heads": [1, 10, 3, 2, 2],
        "joined": [1, 10, 4],
        "wanted": [-1, 1, 4],
        "three": [3],
        "minus_one": [-1],
        "out": [1, 4],
    }
    nodes = [
        make("Constant", [], [name], value=numpy_helper.from_array(np.array(values, np.int64)))
        for name, values in integers.items()
    ]
    if token == "expanded":  # noqa: S105 - a class token
        nodes.append(make("Constant", [], ["size"], value=_integers(1, 1, 4)))
    elif token == "computed":  # noqa: S105 - a class token
        nodes += [
            make("ConstantOfShape", ["three"], ["ones"], value=_integers(1)),
            make("Mul", ["ones", "minus_one"], ["minus_ones"]),
            make("Equal", ["wanted", "minus_ones"], ["is_kept"]),
            make("Where", ["is_kept", "ones", "wanted"], ["size"]),
        ]
    if token != "constant":  # noqa: S105 - a class token
        nodes.append(make("Expand", ["token", "size"], ["class"]))
    nodes += [
        make("Reshape", ["x", "flat"], ["patches"]),
        make("Transpose", ["patches"], ["rows"], perm=[0, 2, 1]),
        make("Concat", ["token" if token == "constant" else "class", "rows"], ["all"], axis=1),  # noqa: S105 - a class token
        make("Add", ["all", "position"], ["placed"]),
        make("MatMul", ["placed", "qkv"], ["product"]),
        make("Reshape", ["product", "heads"], ["split"]),
        make("Transpose", ["split"], ["turned"], perm=[2, 0, 3, 1, 4]),
        *(
            make("Gather", ["turned", f"index{i}"], [part], axis=0)
            for i, part in enumerate(("query", "key", "value"))
        ),
        make("Transpose", ["key"], ["key_t"], perm=[0, 1, 3, 2]),
        make("MatMul", ["query", "key_t"], ["scores"]),
        make("Softmax", ["scores"], ["weights"], axis=-1),
        make("MatMul", ["weights", "value"], ["mixed"]),
        make("Transpose", ["mixed"], ["unsplit"], perm=[0, 2, 1, 3]),
        make("Reshape", ["unsplit", "joined"], ["sum"]),
        make("Gather", ["sum", "index0"], ["y"], axis=1),
    ]
    initializers = [numpy_helper.from_array(a.astype(np.float32), n) for n, a in constants.items()]
    initializers += [numpy_helper.from_array(np.array(i, np.int64), f"index{i}") for i in range(3)]
    graph = helper.make_graph(
        nodes,
        "transformer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 3, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])],
        initializers,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=7)


def _integers(*values: int) -> TensorProto:
    return numpy_helper.from_array(np.array(values, np.int64))


@pytest.mark.parametrize("token", ["constant", "expanded", "computed"])
@pytest.mark.parametrize("rows", [1, 2, 5])
def test_dynamic_batch_of_a_transformer(token: str, rows: int) -> None:
    """A class token is put before the patches of every row, and attention stays within a row."""
    before = transformer(token)
    after = canonical(dynamic_batch(before))
    x = np.random.default_rng(4).normal(size=(rows, 4, 3, 3)).astype(np.float32)
    singles = [run(before, x[i : i + 1]) for i in range(rows)]
    np.testing.assert_allclose(run(after, x), np.concatenate(singles), rtol=1e-5, atol=1e-6)


def test_dynamic_batch_of_the_stand_in() -> None:
    """A vision transformer with a batch fixed at 1 takes any number of pictures afterwards."""
    before = dinov2(blocks=2, mlp_width=32)
    after = canonical(dynamic_batch(before))
    x = np.random.default_rng(5).normal(size=(3, 3, 224, 224)).astype(np.float32)
    singles = [run(before, x[i : i + 1], "input") for i in range(3)]
    np.testing.assert_allclose(run(after, x, "input"), np.concatenate(singles), atol=1e-4)


def test_canonical_is_independent_of_order() -> None:
    """However constants and independent ops are ordered, the bytes are the same."""
    model, shuffled = small_model(), small_model()
    constants = list(reversed(shuffled.graph.initializer))
    del shuffled.graph.initializer[:]
    shuffled.graph.initializer.extend(constants)
    first, second = shuffled.graph.node[0], shuffled.graph.node[1]
    swapped = [second, first, *shuffled.graph.node[2:]]
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in swapped]
    del shuffled.graph.node[:]
    shuffled.graph.node.extend(nodes)
    shuffled.producer_name = "someone else"
    expected = canonical(model).SerializeToString(deterministic=True)
    assert expected == canonical(shuffled).SerializeToString(deterministic=True)


def test_canonical_drops_what_is_unused() -> None:
    """Constants that no output needs are gone, and the result is the same."""
    before = small_model()
    after = canonical(before)
    assert "unused" not in {tensor.name for tensor in after.graph.initializer}
    np.testing.assert_array_equal(run(after, noise(2)), run(before, noise(2)))


def test_canonical_is_stable() -> None:
    """The canonical form of a canonical model is itself."""
    once = canonical(small_model())
    assert once.SerializeToString() == canonical(once).SerializeToString()


@pytest.fixture
def converted(tmp_path: Path, make_entry: MakeEntry) -> dict[str, Any]:
    """An entry whose source is ``small_model`` and whose recorded result is right."""
    source = small_model().SerializeToString()
    (tmp_path / "small.onnx").write_bytes(source)
    result = canonical(dynamic_batch(small_model(), symbol="batch"))
    content = result.SerializeToString(deterministic=True)
    return make_entry(
        source,
        {"file": {"path": "small.onnx"}},
        convert={
            "steps": [
                {"step": "dynamic_batch", "args": {"symbol": "batch"}},
                {"step": "canonical"},
            ],
            "sha256": hashlib.sha256(content).hexdigest(),
            "size_bytes": len(content),
        },
        contract={
            "input": {"name": "x", "shape": [None, 4, 3, 3], "layout": "NCHW"},
            "outputs": [{"name": "y", "shape": [None, 144]}],
        },
    )


def test_recorded_conversion(converted: dict[str, Any], make_store: MakeStore) -> None:
    """A recorded conversion is run on pull, with its arguments, and verified."""
    store = make_store({"a": converted})
    store.pull("a")
    model = onnx.load_model(store.path("a"))
    assert "batch" == model.graph.input[0].type.tensor_type.shape.dim[0].dim_param


def test_other_conversion_needs_no_fetch(
    tmp_path: Path, converted: dict[str, Any], make_store: MakeStore
) -> None:
    """A catalogue with another conversion makes its file from the source that is here already."""
    make_store({"a": converted}).pull("a")
    (tmp_path / "small.onnx").unlink()
    converted["convert"]["steps"][0] = {"step": "dynamic_batch", "args": {"symbol": "rows"}}
    content = canonical(dynamic_batch(small_model(), symbol="rows")).SerializeToString(
        deterministic=True
    )
    converted["convert"].update(sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content))
    newer = make_store({"a": converted}, offline=True)
    assert ModelStatus.NOT_INSTALLED is newer.status("a")
    assert content == newer.pull("a").read_bytes()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda e: e["convert"].update(sha256="0" * 64), "the converted file's sha256 is"),
        (lambda e: e["contract"]["outputs"][0].update(shape=[None, 7]), "the contract: .*expected"),
        (lambda e: e["contract"]["input"].update(name="z"), "the contract: .*inputs are"),
        (
            lambda e: e["convert"]["steps"].insert(0, {"step": "tflite_to_onnx"}),
            "tflite_to_onnx failed",
        ),
        (
            lambda e: e["convert"]["steps"][0].update(args={"axis": 1}),
            "dynamic_batch failed: TypeError",
        ),
    ],
)
def test_failing_conversion(
    converted: dict[str, Any],
    make_store: MakeStore,
    change: Callable[[dict[str, Any]], None],
    told: str,
) -> None:
    """A conversion that fails or gives something else names the model and the step."""
    change(converted)
    store = make_store({"a": converted})
    with pytest.raises(ModelConversionError, match=f"a: {told}"):
        store.pull("a")
