"""Rewrites of ONNX graphs; each takes a model and returns a new one with equal outputs.

``prelu_as_depthwise`` exists for speed: TensorFlow wrote PReLU as ``relu(x) + a·(x - |x|)/2`` and
the converter keeps the five element-wise ops. They make ONNX Runtime leave its blocked channel
layout and walk the memory five times per activation. As ``a·x + (1 - a)·relu(x)`` with two
depthwise 1x1 convolutions everything stays in that layout. MobileFaceNet on one x86-64 thread:
5.8 ms a face instead of 8.8 at batch 1, 6.9 instead of 12.5 at batch 8. The obvious ``PRelu`` op
and ``Max(x, a·x)`` are slower than what they would replace, and ``Max`` is wrong for slopes
outside 0..1, which occur (-9.4 to 8.9).
"""

from collections.abc import Iterator

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from deployments.runtime.errors import ModelConversionError

PRODUCER = "cl-ml-serve"


def prelu_as_depthwise(model: onnx.ModelProto) -> onnx.ModelProto:
    """Replace every ``relu(x) + slope·(x - |x|)`` by two depthwise convolutions and an addition.

    Raises:
        ModelConversionError: the graph has none.

    """
    model = _copy(model)
    graph = model.graph
    finder = _PReluFinder(graph)
    nodes: list[onnx.NodeProto] = []
    found = 0
    for node in graph.node:
        match = finder.match(node)
        if match is None:
            nodes.append(node)
            continue
        found += 1
        x, relu, slope = match
        # The graph's factor is half the PReLU slope: x - |x| is 2x where x is negative.
        slope = (2 * slope).reshape(-1, 1, 1, 1).astype(np.float32)
        name = node.output[0]
        scaled, kept = f"{name}/scaled", f"{name}/kept"
        graph.initializer.extend(
            [
                numpy_helper.from_array(slope, f"{name}/slope"),
                numpy_helper.from_array(1 - slope, f"{name}/one_minus_slope"),
            ]
        )
        nodes += [
            _depthwise(x, f"{name}/slope", scaled, slope.shape[0]),
            _depthwise(relu, f"{name}/one_minus_slope", kept, slope.shape[0]),
            onnx.helper.make_node("Add", [scaled, kept], [name], name=name),
        ]
    if not found:
        raise ModelConversionError("the graph has no PReLU of that form")
    # The ops that nobody reads any more are dropped by the canonical step.
    _replace_nodes(graph, nodes)
    return model


def dynamic_batch(model: onnx.ModelProto, symbol: str = "N") -> onnx.ModelProto:
    """Free the first axis of all inputs and outputs, and of whatever in the graph fixes it.

    ``symbol`` is the free axis's name. Only what the input reaches is touched:

    - ``Reshape`` and ``Resize`` with constant shapes.
    - ``Concat`` of values for the whole batch with one that is the same for every row, as a vision
      transformer puts its class token before the patches: that one is repeated.

    Everything else is either indifferent to the batch or beyond this function, which running the
    result against the source shows. The recorded shapes of inner values are dropped: they would
    state the old batch.

    Raises:
        ModelConversionError: a constant shape can't be freed.

    """
    shapes = _value_shapes(onnx.shape_inference.infer_shapes(model))
    model = _copy(model)
    graph = model.graph
    batch = graph.input[0].type.tensor_type.shape.dim[0].dim_value
    constants = _constants(graph)
    reached = _reached_by_input(graph)
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.op_type == "Reshape" and node.input[0] in reached:
            shape = constants.get(node.input[1], np.empty(0)).copy()
            if len(shape) > 1 and shape[0] == batch:
                shape[0] = 0  # in ONNX: as many as the reshaped value has there
                node.input[1] = _add_constant(graph, f"{node.output[0]}/shape", shape)
        elif node.op_type == "Resize" and node.input[0] in reached and len(node.input) > 3:  # noqa: PLR2004 - x, roi, scales, sizes
            sizes = constants[node.input[3]]
            ratios = sizes / np.array(shapes[node.input[0]])
            if (ratios != ratios.astype(np.float32)).any():
                raise ModelConversionError(f"Resize {node.name} has no exact scale: {ratios}")
            scales = _add_constant(graph, f"{node.output[0]}/scales", ratios.astype(np.float32))
            node.input[2] = scales
            del node.input[3]
        elif node.op_type == "Concat" and batch == 1 and node.attribute[0].i != 0:
            nodes += _repeat_the_same(graph, node, reached)
        nodes.append(node)
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = symbol
    del graph.value_info[:]
    _replace_nodes(graph, nodes)
    return model


def canonical(model: onnx.ModelProto) -> onnx.ModelProto:
    """Bring a model into the one form that its computation has, so that its bytes are repeatable.

    tflite2onnx collects tensors in sets, so its files differ with Python's hash seed. Here nodes
    stand in depth-first order from the outputs, constants by name and as raw little-endian data,
    attributes by name; nodes and constants that no output needs are gone, and so is everything
    that only describes.
    """
    graph = model.graph
    ordered = list(_needed_nodes(graph))
    used = {name for node in ordered for name in node.input}
    constants = sorted(
        (tensor for tensor in graph.initializer if tensor.name in used), key=lambda t: t.name
    )
    clean = onnx.GraphProto(
        name="main",
        node=[_clean_node(node) for node in ordered],
        initializer=[_clean_constant(tensor) for tensor in constants],
        input=[_clean_value(value) for value in graph.input],
        output=[_clean_value(value) for value in graph.output],
    )
    result = onnx.ModelProto(
        ir_version=model.ir_version,
        producer_name=PRODUCER,
        opset_import=sorted(model.opset_import, key=lambda opset: opset.domain),
        graph=clean,
    )
    onnx.checker.check_model(result, full_check=True)
    return result


def _repeat_the_same(
    graph: onnx.GraphProto, concat: onnx.NodeProto, reached: set[str]
) -> list[onnx.NodeProto]:
    """Make the inputs of a Concat that no input reaches as many rows as those that one reaches."""
    lead = next((name for name in concat.input if name in reached), None)
    if lead is None:
        return []
    nodes: list[onnx.NodeProto] = []
    make = onnx.helper.make_node
    for index, name in enumerate(concat.input):
        if name in reached:
            continue
        prefix = f"{concat.output[0]}/{index}"
        zero, one, end = (
            _add_constant(graph, f"{prefix}/{bound}", np.array([bound], np.int64))
            for bound in (0, 1, np.iinfo(np.int64).max)
        )
        # Shapes are asked for when it runs: inference does not know those that are computed.
        nodes += [
            make("Shape", [lead], [f"{prefix}/lead"]),
            make("Slice", [f"{prefix}/lead", zero, one], [f"{prefix}/rows"]),
            make("Shape", [name], [f"{prefix}/own"]),
            make("Slice", [f"{prefix}/own", one, end], [f"{prefix}/rest"]),
            make("Concat", [f"{prefix}/rows", f"{prefix}/rest"], [f"{prefix}/shape"], axis=0),
            make("Expand", [name, f"{prefix}/shape"], [f"{prefix}/repeated"]),
        ]
        concat.input[index] = f"{prefix}/repeated"
    return nodes


def _constants(graph: onnx.GraphProto) -> dict[str, NDArray[np.generic]]:
    """All constant values: initializers, and ``Constant`` nodes as torch writes them."""
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            found[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    return found


def _reached_by_input(graph: onnx.GraphProto) -> set[str]:
    """Names of the values that depend on an input; all others are constants, or made of them."""
    constants = {tensor.name for tensor in graph.initializer}
    reached = {value.name for value in graph.input} - constants
    for node in graph.node:
        if not reached.isdisjoint(node.input):
            reached.update(node.output)
    return reached


class _PReluFinder:
    """Recognises the last op of a written-out PReLU."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._makers = {output: node for node in graph.node for output in node.output}
        self._constants = {tensor.name: tensor for tensor in graph.initializer}

    def match(self, node: onnx.NodeProto) -> tuple[str, str, NDArray[np.float32]] | None:
        """Return x's name, relu(x)'s name and the factors (C,), None for any other op."""
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
                    return relu.input[0], positive, slope
        return None

    def _made_by(self, value: str, op_type: str) -> onnx.NodeProto | None:
        node = self._makers.get(value)
        return node if node is not None and node.op_type == op_type else None

    def _slope(self, value: str) -> NDArray[np.float32] | None:
        reshape = self._made_by(value, "Reshape")
        constant = self._constants.get(reshape.input[0]) if reshape else None
        return numpy_helper.to_array(constant).ravel() if constant else None

    def _is_x_minus_abs(self, value: str, x: str) -> bool:
        minus = self._made_by(value, "Sub")
        if minus is None or minus.input[0] != x:
            return False
        absolute = self._made_by(minus.input[1], "Abs")
        return absolute is not None and absolute.input[0] == x


def _depthwise(x: str, weight: str, output: str, channels: int) -> onnx.NodeProto:
    return onnx.helper.make_node(
        "Conv", [x, weight], [output], name=output, group=channels, kernel_shape=[1, 1]
    )


def _needed_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Yield the nodes that the outputs need, each after those that it needs itself."""
    makers = {output: node for node in graph.node for output in node.output}
    done: set[str] = set()
    # An explicit stack: a deep network is deeper than Python's recursion limit.
    stack = [(value.name, False) for value in reversed(graph.output)]
    while stack:
        value, ready = stack.pop()
        node = makers.get(value)
        if node is None or node.output[0] in done:
            continue
        if ready:
            done.add(node.output[0])
            yield node
            continue
        stack.append((value, True))
        stack.extend((name, False) for name in reversed(node.input))


def _clean_node(node: onnx.NodeProto) -> onnx.NodeProto:
    clean = onnx.NodeProto(
        op_type=node.op_type, domain=node.domain, name=node.output[0], input=node.input
    )
    clean.output.extend(node.output)
    for attribute in sorted(node.attribute, key=lambda a: a.name):
        clean.attribute.add().CopyFrom(attribute)
        clean.attribute[-1].ClearField("doc_string")
    return clean


def _clean_constant(tensor: onnx.TensorProto) -> onnx.TensorProto:
    array = numpy_helper.to_array(tensor)
    little = array.astype(array.dtype.newbyteorder("<"))
    return onnx.TensorProto(
        name=tensor.name,
        data_type=tensor.data_type,
        dims=tensor.dims,
        raw_data=little.tobytes(),
    )


def _clean_value(value: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
    return onnx.ValueInfoProto(name=value.name, type=value.type)


def _value_shapes(model: onnx.ModelProto) -> dict[str, list[int]]:
    values = (*model.graph.input, *model.graph.output, *model.graph.value_info)
    return {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}


def _add_constant(graph: onnx.GraphProto, name: str, array: NDArray[np.generic]) -> str:
    graph.initializer.append(numpy_helper.from_array(array, name))
    return name


def _replace_nodes(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    copies = [_copy_node(node) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def _copy_node(node: onnx.NodeProto) -> onnx.NodeProto:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    return copy
