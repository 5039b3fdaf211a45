"""PReLU: the rewrite gives the same in fewer and faster ops, whatever stands around it."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from deployments.runtime.errors import ModelConversionError
from deployments.runtime.models._rewrites import canonical
from deployments.runtime.models._rewrites_prelu import prelu_as_depthwise

CHANNELS = 4


def network(*, around: bool, shown: tuple[str, ...] = ()) -> onnx.ModelProto:
    """Build a PReLU of five ops, between two convolutions or alone.

    ``shown`` are inner values that are outputs too.
    """
    rng = np.random.default_rng(1)
    shapes = {"first": (CHANNELS, 2, 3, 3), "bias": (CHANNELS,), "second": (3, CHANNELS, 1, 1)}
    constants = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    constants["factors"] = rng.uniform(-5, 5, CHANNELS)
    initializers = [numpy_helper.from_array(a.astype(np.float32), n) for n, a in constants.items()]
    initializers.append(numpy_helper.from_array(np.array([1, CHANNELS, 1, 1]), "shape"))
    make = helper.make_node
    nodes = [
        make("Relu", ["x"], ["relu"]),
        make("Abs", ["x"], ["abs"]),
        make("Sub", ["x", "abs"], ["minus"]),
        make("Reshape", ["factors", "shape"], ["factors4"]),
        make("Mul", ["factors4", "minus"], ["negative"]),
        make("Add", ["relu", "negative"], ["y"]),
    ]
    if around:
        before = make("Conv", ["in", "first", "bias"], ["x"], kernel_shape=[3, 3], pads=[1] * 4)
        after = make("Conv", ["y", "second"], ["out"], kernel_shape=[1, 1])
        nodes = [before, *nodes, after]
    sizes = {"in": 2, "x": CHANNELS, "y": CHANNELS, "out": 3}
    values = {
        name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, size, 5, 5])
        for name, size in sizes.items()
    }
    first, last = ("in", "out") if around else ("x", "y")
    outputs = [values[name] for name in (last, *shown)]
    graph = helper.make_graph(nodes, "prelu", [values[first]], outputs, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=6)


def run(model: onnx.ModelProto) -> list[NDArray[np.float32]]:
    """Run a model on seeded input."""
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (node,) = session.get_inputs()
    x = np.random.default_rng(2).normal(size=node.shape).astype(np.float32)
    return [np.asarray(output) for output in session.run(None, {node.name: x})]


def ops(model: onnx.ModelProto) -> list[str]:
    """Return the sorted op types of a model."""
    return sorted(node.op_type for node in model.graph.node)


@pytest.mark.parametrize(
    ("around", "shown", "expected"),
    [
        (True, (), ["Add", "Conv", "Conv", "Conv", "Relu"]),
        # Alone, nobody takes the minus signs.
        (False, (), ["Add", "Conv", "Neg", "Neg", "Relu"]),
        # Values that are seen from outside keep their sign.
        (True, ("x",), ["Add", "Conv", "Conv", "Conv", "Neg", "Relu"]),
        (True, ("y",), ["Add", "Conv", "Conv", "Conv", "Neg", "Relu"]),
        (True, ("x", "y"), ["Add", "Conv", "Conv", "Conv", "Neg", "Neg", "Relu"]),
    ],
)
def test_prelu_as_depthwise(around: bool, shown: tuple[str, ...], expected: list[str]) -> None:  # noqa: FBT001 - a column of the table
    """Five ops become three and give the same, with slopes outside 0..1."""
    before = network(around=around, shown=shown)
    after = canonical(prelu_as_depthwise(before))
    assert expected == ops(after)
    for want, got in zip(run(before), run(after), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def test_prelu_is_found_in_any_order() -> None:
    """The operands of the commutative ops may stand either way."""
    before = network(around=True)
    for node in before.graph.node:
        if node.op_type in {"Add", "Mul"}:
            node.input[:] = list(reversed(node.input))
    after = canonical(prelu_as_depthwise(before))
    assert ["Add", "Conv", "Conv", "Conv", "Relu"] == ops(after)
    np.testing.assert_allclose(run(after)[0], run(before)[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("op_type", ["Abs", "Sub"])
def test_similar_ops_are_left_alone(op_type: str) -> None:
    """What only looks like a PReLU is not rewritten."""
    model = network(around=False)
    [node] = (node for node in model.graph.node if node.op_type == op_type)
    node.input[0] = "relu"
    with pytest.raises(ModelConversionError, match="no PReLU"):
        prelu_as_depthwise(model)
