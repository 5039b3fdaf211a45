"""PReLU as TensorFlow wrote it, in ops that stay in ONNX Runtime's blocked channel layout.

TensorFlow wrote it as ``relu(x) + a·(x - |x|)/2`` and the converter keeps the five element-wise
ops. They make ONNX Runtime leave its blocked layout and walk the memory five times per activation.
Here it is ``x + (1 - a)·relu(-x)``: a ReLU, and a depthwise 1x1 convolution, to which the runtime
adds ``x`` in passing. The minus signs cost nothing, as the weights of the convolutions before and
after take them: what flows between is ``-x + (a - 1)·relu(-x)``. Slopes may be of any size; -9.4 to
8.9 occur. The decision 0014 has the figures, and those of the forms that are slower.
"""

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from deployments.runtime.errors import ModelConversionError
from deployments.runtime.models._graphs import (
    add_constant,
    constants,
    copied,
    makers,
    needed_nodes,
    readers,
    replace_nodes,
)


def prelu_as_depthwise(model: onnx.ModelProto) -> onnx.ModelProto:
    """Replace every ``relu(x) + slope·(x - |x|)`` by a ReLU and a depthwise convolution.

    Raises:
        ModelConversionError: the graph has none.

    """
    model = copied(model)
    graph = model.graph
    finder = _PReluFinder(graph)
    nodes: list[onnx.NodeProto] = []
    negations: list[str] = []
    make = onnx.helper.make_node
    for node in graph.node:
        match = finder.match(node)
        if match is None:
            nodes.append(node)
            continue
        x, factors = match
        name = node.output[0]
        minus, relu, kept, flipped = (f"{name}/{part}" for part in ("minus", "relu", "kept", "sum"))
        # The graph's factor is half the PReLU slope: x - |x| is 2x where x is negative.
        weight = (2 * factors - 1).reshape(-1, 1, 1, 1).astype(np.float32)
        add_constant(graph, f"{name}/slope", weight)
        nodes += [
            make("Neg", [x], [minus]),
            make("Relu", [minus], [relu]),
            make("Conv", [relu, f"{name}/slope"], [kept], group=len(weight), kernel_shape=[1, 1]),
            make("Add", [kept, minus], [flipped]),
            make("Neg", [flipped], [name]),
        ]
        negations += [minus, name]
    if not negations:
        raise ModelConversionError("the graph has no PReLU of that form")
    replace_nodes(graph, nodes)
    replace_nodes(graph, list(needed_nodes(graph)))  # without the ops that were replaced
    for name in negations:
        _fold_negation(graph, name)
    return model


def _fold_negation(graph: onnx.GraphProto, name: str) -> None:
    """Let a convolution before or after a ``Neg`` do its work, if it works for nobody else."""
    known, read = constants(graph), readers(graph)
    negation = makers(graph)[name]
    if not {name, negation.input[0]}.isdisjoint(value.name for value in graph.output):
        return
    before, after = makers(graph).get(negation.input[0]), read[name]
    if before and before.op_type == "Conv" and len(read[before.output[0]]) == 1:
        conv, weights = before, range(1, len(before.input))
        before.output[0] = name
    elif [node.op_type for node in after] == ["Conv"]:
        conv, weights = after[0], range(1, 2)
        conv.input[0] = negation.input[0]
    else:
        return
    for index in weights:
        negated = -known[conv.input[index]]
        conv.input[index] = add_constant(graph, f"{conv.input[index]}/negated", negated)
    replace_nodes(graph, [node for node in graph.node if node != negation])


class _PReluFinder:
    """Recognises the last op of a written-out PReLU."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._makers = makers(graph)
        self._constants = constants(graph)

    def match(self, node: onnx.NodeProto) -> tuple[str, NDArray[Any]] | None:
        """Return x's name and the factors (C,), None for any other op."""
        if node.op_type != "Add":
            return None
        for positive, negative in (node.input, reversed(node.input)):
            relu = self._made_by(positive, "Relu")
            product = self._made_by(negative, "Mul")
            if relu is None or product is None:
                continue
            for factors, difference in (product.input, reversed(product.input)):
                slope = self._slope(factors)
                if slope is not None and self._is_x_minus_abs(difference, relu.input[0]):
                    return relu.input[0], slope
        return None

    def _made_by(self, value: str, op_type: str) -> onnx.NodeProto | None:
        node = self._makers.get(value)
        return node if node is not None and node.op_type == op_type else None

    def _slope(self, value: str) -> NDArray[Any] | None:
        reshape = self._made_by(value, "Reshape")
        constant = self._constants.get(reshape.input[0]) if reshape else None
        return constant.ravel() if constant is not None else None

    def _is_x_minus_abs(self, value: str, x: str) -> bool:
        minus = self._made_by(value, "Sub")
        if minus is None or minus.input[0] != x:
            return False
        absolute = self._made_by(minus.input[1], "Abs")
        return absolute is not None and absolute.input[0] == x
