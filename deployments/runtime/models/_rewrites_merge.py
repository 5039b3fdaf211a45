"""Convolutions with nothing between them, as one.

MobileFaceNet has two such pairs: where a block ends in a convolution without an activation, nobody
else reads its result, and the next block begins with a 1x1 convolution.
"""

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from deployments.runtime.models._graphs import (
    add_constant,
    attribute,
    constants,
    copied,
    makers,
    readers,
    replace_nodes,
)


def merge_convolutions(model: onnx.ModelProto) -> onnx.ModelProto:
    """Put every 1x1 convolution into the one before it where that makes less work."""
    model = copied(model)
    graph = model.graph
    for node in list(graph.node):
        before = _mergeable(graph, node)
        if before is None:
            continue
        known = constants(graph)
        first, second = known[before.input[1]], known[node.input[1]][:, :, 0, 0]
        weight = _product(second, first)
        bias = _product(second, _bias(known, before)) + _bias(known, node)
        output = node.output[0]
        before.input[1:] = [
            add_constant(graph, f"{output}/weight", weight.astype(np.float32)),
            add_constant(graph, f"{output}/bias", bias.astype(np.float32)),
        ]
        before.output[0] = output
        replace_nodes(graph, [n for n in graph.node if n != node])
    return model


def _mergeable(graph: onnx.GraphProto, node: onnx.NodeProto) -> onnx.NodeProto | None:
    """Return the convolution that a 1x1 convolution can be put into."""
    known, read = constants(graph), readers(graph)
    before = makers(graph).get(node.input[0]) if node.op_type == "Conv" else None
    if before is None or before.op_type != "Conv" or len(read[node.input[0]]) > 1:
        return None
    if node.input[0] in {value.name for value in graph.output}:
        return None
    first, second = known[before.input[1]], known[node.input[1]]
    plain = (
        second.shape[2:] == (1, 1)
        and attribute(node, "strides") in (None, [1, 1])
        and attribute(node, "pads") in (None, [0, 0, 0, 0])
        and all(attribute(conv, "group") in (None, 1) for conv in (before, node))
    )
    if not plain:
        return None
    return before if second.shape[0] * first[0].size < first.size + second.size else None


def _product(matrix: NDArray[Any], values: NDArray[Any]) -> NDArray[np.float64]:
    """Multiply (O, M) and (M, ...) to (O, ...), adding in one order on every machine.

    A matrix product of NumPy adds in the order that suits the processor, and the sha256 of the
    result is recorded.
    """
    total = np.zeros((len(matrix), *values.shape[1:]))
    for column, value in zip(matrix.T.astype(np.float64), values, strict=True):
        total += np.multiply.outer(column, value)
    return total


def _bias(known: dict[str, NDArray[Any]], conv: onnx.NodeProto) -> NDArray[Any]:
    width = len(known[conv.input[1]])
    return known[conv.input[2]] if conv.input[2:] else np.zeros(width, np.float32)
