"""What the rewrites of ONNX graphs share."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import numpy_helper


def constants(graph: onnx.GraphProto) -> dict[str, NDArray[Any]]:
    """All constant values: initializers, and ``Constant`` nodes as torch writes them."""
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            found[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    return found


def makers(graph: onnx.GraphProto) -> dict[str, onnx.NodeProto]:
    """Return the node that makes each value."""
    return {output: node for node in graph.node for output in node.output}


def readers(graph: onnx.GraphProto) -> dict[str, list[onnx.NodeProto]]:
    """Return the nodes that read each value."""
    found: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            found[name].append(node)
    return found


def needed_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Yield the nodes that the outputs need, each after those that it needs itself."""
    made = makers(graph)
    done: set[str] = set()
    # An explicit stack: a deep network is deeper than Python's recursion limit.
    stack = [(value.name, False) for value in reversed(graph.output)]
    while stack:
        value, ready = stack.pop()
        node = made.get(value)
        if node is None or node.output[0] in done:
            continue
        if ready:
            done.add(node.output[0])
            yield node
            continue
        stack.append((value, True))
        stack.extend((name, False) for name in reversed(node.input))


def attribute(node: onnx.NodeProto, name: str) -> object:
    """Return a node's attribute as Python has it, None where the node has none of that name."""
    found = (onnx.helper.get_attribute_value(a) for a in node.attribute if a.name == name)
    return next(found, None)


def add_constant(graph: onnx.GraphProto, name: str, array: NDArray[Any]) -> str:
    """Add an initializer and return its name."""
    graph.initializer.append(numpy_helper.from_array(array, name))
    return name


def replace_nodes(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    """Make ``nodes`` the nodes of a graph; some of them may be in it already."""
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)


def copied(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of a model."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy
