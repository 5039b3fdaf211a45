"""Vision transformers: fused where the patterns are, equal in all cases."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto

from benchmarks.stand_ins.builder import GraphBuilder
from benchmarks.stand_ins.dinov2 import dinov2
from deployments.runtime.models._rewrites import canonical, dynamic_batch, fold_constants
from deployments.runtime.models._rewrites_transformer import fuse_transformer

WIDTH, HEADS, TOKENS, BLOCKS = 8, 2, 5, 2

Reads = Literal["first", "second", "all"]


class Exporter(GraphBuilder):
    """Writes the ops as exporters do for opset 14, which has neither LayerNormalization nor Gelu.

    Its attention is ``scaled_dot_product_attention``: each factor takes half of the scale.
    """

    def number(self, value: float) -> str:
        """Add a number."""
        return self.array(np.array(value, np.float32))

    def layer_norm(self, x: str, size: int, epsilon: float) -> str:
        """Normalise the last axis, op by op."""
        scale, bias = self.normal([size], 1.0), self.bias(size)
        centred = self.op("Sub", x, self.op("ReduceMean", x, axes=[-1]))
        variance = self.op("ReduceMean", self.op("Pow", centred, self.number(2)), axes=[-1])
        deviation = self.op("Sqrt", self.op("Add", variance, self.number(epsilon)))
        return self.op("Add", self.op("Mul", self.op("Div", centred, deviation), scale), bias)

    def gelu(self, x: str) -> str:
        """Apply GELU, op by op."""
        error = self.op("Erf", self.op("Div", x, self.number(2**0.5)))
        product = self.op("Mul", x, self.op("Add", error, self.number(1)))
        return self.op("Mul", product, self.number(0.5))

    def attention(self, x: str, rows: int, width: int, heads: int, *, bias: bool) -> str:
        """Add attention whose shapes are computed when it runs."""
        depth = width // heads
        product = self.linear(x, width, 3 * width, bias=bias)
        sizes = [self.op("Gather", self.op("Shape", x), self.integers(i), axis=0) for i in (0, 1)]
        shape = self.op("Concat", *sizes, self.integers(3, heads, depth), axis=0)
        split = self.op("Transpose", self.op("Reshape", product, shape), perm=[2, 0, 3, 1, 4])
        query, key, value = (
            self.op("Gather", split, self.array(np.array(i, np.int64)), axis=0) for i in range(3)
        )
        half = self.number(depth**-0.25)
        key = self.op("Mul", self.op("Transpose", key, perm=[0, 1, 3, 2]), half)
        scores = self.op("MatMul", self.op("Mul", half, query), key)
        mixed = self.op("MatMul", self.op("Softmax", scores, axis=-1), value)
        turned = self.op("Transpose", mixed, perm=[0, 2, 1, 3])
        joined = self.op("Concat", *sizes, self.integers(width), axis=0)
        return self.linear(self.op("Reshape", turned, joined), width, width)


class Plain(GraphBuilder):
    """Writes the ops as the stand-ins have them."""

    def gelu(self, x: str) -> str:
        """Apply GELU, which is one op."""
        return self.op("Gelu", x)


def transformer(builder: type[Plain] | type[Exporter], reads: Reads = "first") -> onnx.ModelProto:
    """Build some blocks of a vision transformer with a batch of 1.

    ``reads`` says which tokens make the result.
    """
    graph = builder("transformer")
    x = graph.op("Add", "x", graph.normal([1, TOKENS, WIDTH], 1.0))
    for _ in range(BLOCKS):
        mixed = graph.attention(graph.layer_norm(x, WIDTH, 1e-6), 1, WIDTH, HEADS, bias=True)
        x = graph.op("Add", x, graph.scaled(mixed, [WIDTH]))
        hidden = graph.linear(graph.layer_norm(x, WIDTH, 1e-6), WIDTH, 2 * WIDTH)
        hidden = graph.linear(graph.gelu(hidden), 2 * WIDTH, WIDTH)
        x = graph.op("Add", x, graph.scaled(hidden, [WIDTH]))
    x = graph.layer_norm(x, WIDTH, 1e-6)
    shape = [TOKENS, WIDTH]
    if reads != "all":
        index = np.array(("first", "second").index(reads), np.int64)
        x, shape = graph.op("Gather", x, graph.array(index), axis=1), [WIDTH]
    model = graph.finish(
        x, input_=("x", TensorProto.FLOAT, [TOKENS, WIDTH]), named=("y", shape), batch=1
    )
    if builder is Exporter:
        model.opset_import[0].version = 14
    return model


def rewritten(model: onnx.ModelProto) -> onnx.ModelProto:
    """Take the steps of the catalogue."""
    return canonical(fuse_transformer(dynamic_batch(fold_constants(model))))


def run(model: onnx.ModelProto, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Run a model of one input and one output."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return np.asarray(session.run(None, {session.get_inputs()[0].name: x})[0])


def noise(rows: int, shape: Sequence[int] = (TOKENS, WIDTH)) -> NDArray[np.float32]:
    """Return seeded input."""
    return np.random.default_rng(2).normal(size=(rows, *shape)).astype(np.float32)


def ops(model: onnx.ModelProto) -> Counter[str]:
    """Count the op types of a model."""
    return Counter(node.op_type for node in model.graph.node)


@pytest.mark.parametrize("builder", [Plain, Exporter])
@pytest.mark.parametrize(
    ("reads", "slices"),
    # The last block's query and its residual, where it is computed for the first token alone.
    [("first", 2), ("second", 0), ("all", 0)],
)
def test_fuse_transformer(builder: type[Plain] | type[Exporter], reads: Reads, slices: int) -> None:
    """However an exporter writes it, it is fused and gives the same for any number of rows."""
    before = transformer(builder, reads)
    after = rewritten(before)
    count = ops(after)
    assert (BLOCKS, 0, slices) == (count["MultiHeadAttention"], count["Softmax"], count["Slice"])
    # No layer scale is left; GELU, op by op, has two products a block and normalisation one.
    norms = 2 * BLOCKS + 1
    assert (0 if builder is Plain else 2 * BLOCKS + norms) == count["Mul"]
    x = noise(3)
    singles = [run(before, x[i : i + 1]) for i in range(3)]
    np.testing.assert_allclose(run(after, x), np.concatenate(singles), rtol=1e-5, atol=1e-5)


def _turn_otherwise(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        if node.op_type == "Transpose" and list(node.attribute[0].ints) == [0, 2, 1, 3]:
            node.attribute[0].ints[:] = [0, 2, 3, 1]


def _normalise_otherwise(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        if node.op_type == "Softmax":
            node.attribute[0].i = 2


def _swap_query_and_key(model: onnx.ModelProto) -> None:
    gathers = [n for n in model.graph.node if n.op_type == "Gather" and n.attribute[0].i == 0]
    for query, key in zip(gathers[::3], gathers[1::3], strict=True):
        query.input[1], key.input[1] = key.input[1], query.input[1]


@pytest.mark.parametrize("change", [_turn_otherwise, _normalise_otherwise, _swap_query_and_key])
def test_other_attention_is_left_alone(change: Callable[[onnx.ModelProto], Any]) -> None:
    """What only looks like attention stays as it is."""
    before = transformer(Plain)
    change(before)
    after = rewritten(before)
    assert BLOCKS == ops(after)["Softmax"]
    np.testing.assert_allclose(run(after, noise(1)), run(before, noise(1)), rtol=1e-5, atol=1e-5)


def test_without_a_transformer() -> None:
    """A graph without any of the patterns comes back as it is."""
    graph = GraphBuilder("other")
    x = graph.op("Sigmoid", graph.linear("x", WIDTH, WIDTH))
    model = graph.finish(x, input_=("x", TensorProto.FLOAT, [WIDTH]), named=("y", [WIDTH]), batch=1)
    assert canonical(model) == canonical(fuse_transformer(model))


def test_stand_in() -> None:
    """The architecture-exact DINOv2 is fused, and gives the same."""
    before = dinov2(blocks=2, mlp_width=32)
    after = rewritten(before)
    assert 2 == ops(after)["MultiHeadAttention"]
    x = noise(2, (3, 224, 224))
    singles = [run(before, x[i : i + 1]) for i in range(2)]
    np.testing.assert_allclose(run(after, x), np.concatenate(singles), atol=1e-4)
