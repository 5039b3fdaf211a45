"""Rewrites of any ONNX graph; each takes a model and returns a new one with equal outputs.

Those for speed stand in ``_rewrites_prelu`` and ``_rewrites_transformer``.
"""

import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import numpy_helper

from deployments.runtime.errors import ModelConversionError
from deployments.runtime.models._graphs import (
    add_constant,
    constants,
    copied,
    needed_nodes,
    replace_nodes,
)

PRODUCER = "cl-ml-serve"

_NOT_FOLDING = ["MatMulAddFusion", "GatherSliceToSplitFusion", "TransposeOptimizer"]
"""What the runtime would do besides folding, and does at load anyway; it hides the patterns that
``_rewrites_transformer`` looks for."""


def fold_constants(model: onnx.ModelProto) -> onnx.ModelProto:
    """Compute what depends on no input, such as shapes and interpolated position embeddings.

    ONNX Runtime does it, which knows all shapes as long as the batch is fixed. The bytes may differ
    with its version.
    """
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 3  # errors
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "folded.onnx"
        options.optimized_model_filepath = str(path)
        ort.InferenceSession(
            model.SerializeToString(),
            options,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=_NOT_FOLDING,
        )
        folded = onnx.load_model(path)
    used = {node.domain for node in folded.graph.node}
    opsets = [opset for opset in folded.opset_import if opset.domain in used]
    del folded.opset_import[:]
    folded.opset_import.extend(opsets)
    return folded


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
    model = copied(model)
    graph = model.graph
    batch = graph.input[0].type.tensor_type.shape.dim[0].dim_value
    known = constants(graph)
    reached = _reached_by_input(graph)
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.op_type == "Reshape" and node.input[0] in reached:
            shape = known.get(node.input[1], np.empty(0)).copy()
            if len(shape) > 1 and shape[0] == batch:
                shape[0] = 0  # in ONNX: as many as the reshaped value has there
                node.input[1] = add_constant(graph, f"{node.output[0]}/shape", shape)
        elif node.op_type == "Resize" and node.input[0] in reached and len(node.input) > 3:  # noqa: PLR2004 - x, roi, scales, sizes
            sizes = known[node.input[3]]
            ratios = sizes / np.array(shapes[node.input[0]])
            if (ratios != ratios.astype(np.float32)).any():
                raise ModelConversionError(f"Resize {node.name} has no exact scale: {ratios}")
            scales = add_constant(graph, f"{node.output[0]}/scales", ratios.astype(np.float32))
            node.input[2] = scales
            del node.input[3]
        elif node.op_type == "Concat" and batch == 1 and node.attribute[0].i != 0:
            nodes += _repeat_the_same(graph, node, reached)
        nodes.append(node)
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = symbol
    del graph.value_info[:]
    replace_nodes(graph, nodes)
    return model


def canonical(model: onnx.ModelProto) -> onnx.ModelProto:
    """Bring a model into the one form that its computation has, so that its bytes are repeatable.

    tflite2onnx collects tensors in sets, so its files differ with Python's hash seed. Here nodes
    stand in depth-first order from the outputs, constants by name and as raw little-endian data,
    attributes by name; nodes and constants that no output needs are gone, and so is everything
    that only describes, but for types of values that nobody could infer.
    """
    graph = model.graph
    ordered = list(needed_nodes(graph))
    used = {name for node in ordered for name in node.input}
    constants = sorted(
        (tensor for tensor in graph.initializer if tensor.name in used), key=lambda t: t.name
    )
    made = {output for node in ordered for output in node.output}
    described = sorted(
        (value for value in graph.value_info if value.name in made), key=lambda v: v.name
    )
    clean = onnx.GraphProto(
        name="main",
        node=[_clean_node(node) for node in ordered],
        initializer=[_clean_constant(tensor) for tensor in constants],
        input=[_clean_value(value) for value in graph.input],
        output=[_clean_value(value) for value in graph.output],
        value_info=[_clean_value(value) for value in described],
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
            add_constant(graph, f"{prefix}/{bound}", np.array([bound], np.int64))
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


def _reached_by_input(graph: onnx.GraphProto) -> set[str]:
    """Names of the values that depend on an input; all others are constants, or made of them."""
    constants = {tensor.name for tensor in graph.initializer}
    reached = {value.name for value in graph.input} - constants
    for node in graph.node:
        if not reached.isdisjoint(node.input):
            reached.update(node.output)
    return reached


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
