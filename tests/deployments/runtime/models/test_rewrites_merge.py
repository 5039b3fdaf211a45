"""Convolutions with nothing between them become one where that makes less work."""

import itertools
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from deployments.runtime.models._rewrites import canonical
from deployments.runtime.models._rewrites_merge import merge_convolutions


def network(
    *,
    widths: tuple[int, ...] = (4, 6, 6, 5),
    shown: bool = False,
    groups: int = 1,
    **last: list[int],
) -> onnx.ModelProto:
    """Build a 3x3 convolution and 1x1 convolutions after it.

    ``widths`` are the channels before, between and after them, ``last`` are attributes of the last
    one, and ``shown`` makes the first one's result an output too.
    """
    rng = np.random.default_rng(1)
    weights: list[TensorProto] = []
    nodes: list[onnx.NodeProto] = []
    for index, (before, after) in enumerate(itertools.pairwise(widths)):
        side = 1 if index else 3
        is_last = index == len(widths) - 2
        group = groups if is_last else 1
        weight = rng.normal(size=(after, before // group, side, side)).astype(np.float32)
        weights.append(numpy_helper.from_array(weight, f"weight{index}"))
        inputs = [f"v{index}", f"weight{index}"]
        if index != 1:  # the second one has no bias
            bias = rng.normal(size=after).astype(np.float32)
            weights.append(numpy_helper.from_array(bias, f"bias{index}"))
            inputs.append(f"bias{index}")
        attributes: dict[str, Any] = {"kernel_shape": [side, side], **(last if is_last else {})}
        nodes.append(helper.make_node("Conv", inputs, [f"v{index + 1}"], group=group, **attributes))
    names = ["v0", f"v{len(nodes)}", *(["v1"] if shown else [])]
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [None] * 4) for n in names]
    values[0] = helper.make_tensor_value_info("v0", TensorProto.FLOAT, [1, widths[0], 8, 8])
    graph = helper.make_graph(nodes, "network", values[:1], values[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=6)


def run(model: onnx.ModelProto) -> list[NDArray[np.float32]]:
    """Run a model on seeded input."""
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (node,) = session.get_inputs()
    x = np.random.default_rng(2).normal(size=node.shape).astype(np.float32)
    return [np.asarray(output) for output in session.run(None, {node.name: x})]


@pytest.mark.parametrize(
    ("expected", "options"),
    [
        (1, {}),
        (1, {"widths": (4, 6, 5)}),
        (1, {"strides": [1, 1], "pads": [0, 0, 0, 0]}),
        # A narrow value between two wide ones saves work.
        (2, {"widths": (4, 2, 64)}),
        # The last one is not a plain 1x1 convolution.
        (2, {"strides": [2, 2]}),
        (2, {"pads": [1, 1, 1, 1]}),
        (2, {"groups": 2, "widths": (4, 6, 6, 4)}),
        # Somebody else sees what is between the first and the second.
        (2, {"shown": True}),
    ],
)
def test_merge_convolutions(expected: int, options: dict[str, Any]) -> None:
    """What is merged gives the same, and what is not stays."""
    before = network(**options)
    after = merge_convolutions(before)
    assert expected == len(after.graph.node)
    for want, got in zip(run(before), run(canonical(after)), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)
