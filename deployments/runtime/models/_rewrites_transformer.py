"""Vision transformers in fewer ops, and without what no output needs.

``fuse_transformer`` does three things wherever it finds the pattern, and leaves alone what it does
not know:

- Attention as exporters write it (one product for queries, keys and values, taken apart by
  ``Reshape``, ``Transpose`` and ``Gather``) becomes three products and one
  ``com.microsoft.MultiHeadAttention``, which reads and writes rows of tokens: no copies in between.
- A layer scale goes into the weights and the bias of the product before it.
- Where only the first token of the result is read, the class token, the last block computes its
  queries, projection and MLP for that one. It still looks at the keys and values of all.

The figures, and those of what did not pay, are in decision 0014.
"""

from dataclasses import dataclass
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
    needed_nodes,
    readers,
    replace_nodes,
)

CONTRIB = "com.microsoft"
"""Domain of ONNX Runtime's own ops."""

_TO_HEADS = [2, 0, 3, 1, 4]  # (rows, tokens, 3, heads, depth) to (3, rows, heads, tokens, depth)
_FROM_HEADS = [0, 2, 1, 3]  # (rows, heads, tokens, depth) to (rows, tokens, heads, depth)
_KEY_TURNED = [0, 1, 3, 2]
_SPLIT_RANK = 5
_MATRIX_RANK = 2

_ELEMENT_WISE = frozenset({"Add", "Div", "Erf", "Gelu", "Mul", "Pow", "Sqrt", "Sub"})

_make = onnx.helper.make_node


def fuse_transformer(model: onnx.ModelProto) -> onnx.ModelProto:
    """Fuse what is found of the patterns; a graph without any comes back as it is.

    Values are taken to be (rows, tokens, width). Running the result against the source shows where
    they were not.
    """
    model = copied(model)
    graph = model.graph
    for rewrite in (_fuse_attention, _fold_layer_scale, _narrow_to_first_token):
        rewrite(graph)
        replace_nodes(graph, list(needed_nodes(graph)))
    imported = {opset.domain for opset in model.opset_import}
    if CONTRIB not in imported and any(node.domain == CONTRIB for node in graph.node):
        model.opset_import.append(onnx.helper.make_opsetid(CONTRIB, 1))
    return model


@dataclass(frozen=True, slots=True)
class _Linear:
    """``x @ weight + bias``: weight (in, out) and bias (out,) are constants."""

    x: str
    weight: NDArray[Any]
    bias: NDArray[Any]

    def times(self, factors: NDArray[Any]) -> "_Linear":
        return _Linear(self.x, self.weight * factors, self.bias * factors)

    def cut(self, parts: int) -> "list[_Linear]":
        weights, biases = np.split(self.weight, parts, axis=1), np.split(self.bias, parts)
        return [_Linear(self.x, w, b) for w, b in zip(weights, biases, strict=True)]

    def nodes(self, graph: onnx.GraphProto, output: str) -> list[onnx.NodeProto]:
        weight = add_constant(graph, f"{output}/weight", self.weight)
        bias = add_constant(graph, f"{output}/bias", self.bias)
        product = f"{output}/product"
        return [
            _make("MatMul", [self.x, weight], [product]),
            _make("Add", [product, bias], [output]),
        ]


class _Finder:
    """Recognises what stands before and behind a value."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.constants = constants(graph)
        self._makers = makers(graph)
        self._readers = readers(graph)

    def made_by(
        self, value: str, op_type: str, perm: list[int] | None = None
    ) -> onnx.NodeProto | None:
        node = self._makers.get(value)
        return node if _is(node, op_type, perm) else None

    def read_by(
        self, value: str, op_type: str, perm: list[int] | None = None
    ) -> onnx.NodeProto | None:
        """Return the one node that reads a value, if it is of that kind."""
        read = self._readers[value]
        return read[0] if len(read) == 1 and _is(read[0], op_type, perm) else None

    def unscaled(self, value: str) -> tuple[str, float]:
        """Return what a value is a multiple of, and the factor."""
        node = self.made_by(value, "Mul") or self.made_by(value, "Div")
        if node is None:
            return value, 1.0
        # A number divided by a value is no multiple of it.
        for index in (1, 0) if node.op_type == "Mul" else (1,):
            number = self.constants.get(node.input[index])
            if number is not None and number.size == 1:
                inner, factor = self.unscaled(node.input[1 - index])
                own = float(number.item())
                return inner, factor * own if node.op_type == "Mul" else factor / own
        return value, 1.0

    def linear(self, value: str) -> _Linear | None:
        """Recognise ``x @ weight + bias``, the bias on either side or left out."""
        bias = None
        add = self.made_by(value, "Add")
        if add is not None:
            for one, other in (add.input, reversed(add.input)):
                if one in self.constants:
                    value, bias = other, self.constants[one]
        product = self.made_by(value, "MatMul")
        weight = self.constants.get(product.input[1]) if product is not None else None
        if product is None or weight is None or weight.ndim != _MATRIX_RANK:
            return None
        width = weight.shape[1]
        if bias is None:
            bias = np.zeros(width, weight.dtype)
        return _Linear(product.input[0], weight, bias.ravel()) if bias.size == width else None


def _is(node: onnx.NodeProto | None, op_type: str, perm: list[int] | None) -> bool:
    if node is None or node.op_type != op_type:
        return False
    return perm is None or attribute(node, "perm") == perm


def _fuse_attention(graph: onnx.GraphProto) -> None:
    find = _Finder(graph)
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        found = _attention(find, node) if node.op_type == "Reshape" else None
        if found is None:
            nodes.append(node)
            continue
        linear, heads, scale = found
        output = node.output[0]
        parts = {name: f"{output}/{name}" for name in ("query", "key", "value")}
        for name, part in zip(parts.values(), linear.cut(3), strict=True):
            nodes += part.nodes(graph, name)
        fused = _make("MultiHeadAttention", [*parts.values()], [output], domain=CONTRIB)
        fused.attribute.append(onnx.helper.make_attribute("num_heads", heads))
        fused.attribute.append(onnx.helper.make_attribute("scale", scale))
        nodes.append(fused)
        # Shape inference knows no ops of other domains, and tools that quantise need the type.
        shape = [None, None, len(linear.bias) // 3]
        graph.value_info.append(
            onnx.helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, shape)
        )
    replace_nodes(graph, nodes)


def _attention(find: _Finder, joined: onnx.NodeProto) -> tuple[_Linear, int, float] | None:
    """Recognise attention by its last op: the product, the number of heads, and the scale."""
    turned = find.made_by(joined.input[0], "Transpose", _FROM_HEADS)
    mixed = find.made_by(turned.input[0], "MatMul") if turned is not None else None
    softmax = find.made_by(mixed.input[0], "Softmax") if mixed is not None else None
    if mixed is None or softmax is None or attribute(softmax, "axis") not in (-1, 3):
        return None
    scores, scale = find.unscaled(softmax.input[0])
    product = find.made_by(scores, "MatMul")
    if product is None:
        return None
    query, query_scale = find.unscaled(product.input[0])
    key, turned_scale = find.unscaled(product.input[1])
    key_turned = find.made_by(key, "Transpose", _KEY_TURNED)
    if key_turned is None:
        return None
    key, key_scale = find.unscaled(key_turned.input[0])
    cut = _cut_into_heads(find, (query, key, mixed.input[1]))
    linear = find.linear(cut[0]) if cut is not None else None
    if cut is None or linear is None:
        return None
    return linear, cut[1], scale * query_scale * turned_scale * key_scale


def _cut_into_heads(find: _Finder, parts: tuple[str, str, str]) -> tuple[str, int] | None:
    """Return the value that query, key and value are cut out of, and the number of heads."""
    sources: set[str] = set()
    for index, part in enumerate(parts):
        gather = find.made_by(part, "Gather")
        chosen = find.constants.get(gather.input[1]) if gather is not None else None
        if gather is None or chosen is None or attribute(gather, "axis") not in (None, 0):
            return None
        if chosen.ndim or chosen.item() != index:
            return None
        sources.add(gather.input[0])
    turned = find.made_by(sources.pop(), "Transpose", _TO_HEADS)
    split = find.made_by(turned.input[0], "Reshape") if turned is not None else None
    shape = find.constants.get(split.input[1]) if split is not None else None
    if sources or split is None or shape is None or len(shape) != _SPLIT_RANK:
        return None
    return split.input[0], int(shape[3])


def _fold_layer_scale(graph: onnx.GraphProto) -> None:
    find = _Finder(graph)
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        scaled = None
        for index in (0, 1) if node.op_type == "Mul" else ():
            factors = find.constants.get(node.input[index])
            x = node.input[1 - index]
            linear = find.linear(x) if find.read_by(x, "Mul") is not None else None
            if linear is not None and factors is not None and factors.size in (1, len(linear.bias)):
                scaled = linear.times(factors.ravel())
        nodes += [node] if scaled is None else scaled.nodes(graph, node.output[0])
    replace_nodes(graph, nodes)


def _narrow_to_first_token(graph: onnx.GraphProto) -> None:
    """Compute for the first token alone whatever serves nothing but it."""
    known, read = constants(graph), readers(graph)
    outputs = {value.name for value in graph.output}
    for gather in graph.node:
        index = known.get(gather.input[1]) if gather.op_type == "Gather" else None
        if index is None or index.size != 1 or index.item() or attribute(gather, "axis") != 1:
            continue
        narrowed: list[onnx.NodeProto] = [gather]
        wanted = {gather.input[0]}
        for node in reversed(graph.node):
            value = node.output[0]
            serves_others = value in outputs or any(
                reader not in narrowed or value in reader.input[_token_inputs(reader) :]
                for reader in read[value]
            )
            if value in wanted and not serves_others and _is_row_wise(node, known):
                narrowed.append(node)
                wanted.update(node.input[: _token_inputs(node)])
        _slice_inputs(graph, narrowed)


def _token_inputs(node: onnx.NodeProto) -> int:
    """How many of a node's inputs, from the first, give its result for a token from that token."""
    return 1 if node.domain == CONTRIB or node.op_type == "Gather" else len(node.input)


def _is_row_wise(node: onnx.NodeProto, known: dict[str, NDArray[Any]]) -> bool:
    """Tell whether a node's result for a token depends on that token alone."""
    ranks = [known[name].ndim for name in node.input if name in known]
    match node.op_type:
        case "MatMul":
            return node.input[1] in known and ranks == [_MATRIX_RANK]
        case "LayerNormalization":
            return attribute(node, "axis") in (None, -1, 2)
        case "ReduceMean":  # of a normalisation op by op, before opset 17
            return attribute(node, "axes") in ([-1], [2])
        case "MultiHeadAttention":
            return True
    return node.op_type in _ELEMENT_WISE and max(ranks, default=0) <= 1


def _slice_inputs(graph: onnx.GraphProto, narrowed: list[onnx.NodeProto]) -> None:
    """Give narrowed nodes the first token of what is not narrowed itself."""
    known = constants(graph)
    made = {node.output[0] for node in narrowed}
    slices: dict[str, onnx.NodeProto] = {}
    bounds = [
        add_constant(graph, f"{narrowed[0].output[0]}/{name}", np.array([number], np.int64))
        for name, number in (("start", 0), ("end", 1), ("axis", 1))
    ]
    for node in narrowed:
        for index in range(_token_inputs(node)):
            value = node.input[index]
            if value not in made and value not in known:
                first = f"{value}/first"
                slices[first] = _make("Slice", [value, *bounds], [first])
                node.input[index] = first
    graph.node.extend(slices.values())  # the order is restored by who called
