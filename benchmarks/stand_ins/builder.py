"""Builds an ONNX graph op by op, with weights drawn from one seeded generator."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET = 20  # the first with Gelu
IR_VERSION = 9  # what was current with it

LAYER_SCALE = 0.1
"""Factor of residual branches. Trained ones are of that order; all ones would let activations
double in every block of a network without normalisation."""

_BIAS_DEVIATION = 0.02


class GraphBuilder:
    """Collects nodes and weights; methods take and return names of values."""

    def __init__(self, name: str, seed: int = 0) -> None:
        """Begin an empty graph; the same seed and calls give the same bytes."""
        self._name = name
        self._random = np.random.default_rng(seed)
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[TensorProto] = []

    def op(self, op_type: str, *inputs: str, **attributes: Any) -> str:  # noqa: ANN401 - as ONNX has them
        """Add a node with one output."""
        output = f"{op_type.lower()}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(op_type, inputs, [output], name=output, **attributes))
        return output

    def array(self, values: NDArray[np.generic]) -> str:
        """Add a weight with the given values."""
        name = f"weight_{len(self._weights)}"
        self._weights.append(numpy_helper.from_array(values, name))
        return name

    def integers(self, *values: int) -> str:
        """Add a ``Constant`` node, which is how exporters write shapes and indices."""
        tensor = numpy_helper.from_array(np.array(values, np.int64))
        return self.op("Constant", value=tensor)

    def normal(self, shape: Sequence[int], deviation: float) -> str:
        """Add a weight of normally distributed values."""
        return self.array(self._random.standard_normal(shape, np.float32) * np.float32(deviation))

    def filled(self, shape: Sequence[int], value: float) -> str:
        """Add a weight that is one value all over."""
        return self.array(np.full(shape, value, np.float32))

    def bias(self, size: int) -> str:
        """Add a bias of small values."""
        return self.normal([size], _BIAS_DEVIATION)

    def linear(self, x: str, in_size: int, out_size: int, *, bias: bool = True) -> str:
        """Multiply the last axis by a matrix."""
        product = self.op("MatMul", x, self.normal([in_size, out_size], in_size**-0.5))
        return self.op("Add", self.bias(out_size), product) if bias else product

    def conv(  # noqa: PLR0913 - what a convolution has
        self,
        x: str,
        in_size: int,
        out_size: int,
        kernel: tuple[int, int] = (1, 1),
        *,
        stride: int = 1,
        groups: int = 1,
        padded: bool = True,
    ) -> str:
        """Add a convolution with bias; ``padded`` keeps the size, apart from the stride."""
        fan_in = in_size // groups * kernel[0] * kernel[1]
        weight = self.normal([out_size, in_size // groups, *kernel], fan_in**-0.5)
        above, left = (side // 2 if padded else 0 for side in kernel)
        return self.op(
            "Conv",
            x,
            weight,
            self.bias(out_size),
            kernel_shape=kernel,
            strides=[stride, stride],
            pads=[above, left, above, left],
            group=groups,
        )

    def layer_norm(self, x: str, size: int, epsilon: float) -> str:
        """Normalise the last axis."""
        scale, bias = self.filled([size], 1.0), self.bias(size)
        return self.op("LayerNormalization", x, scale, bias, axis=-1, epsilon=epsilon)

    def scaled(self, x: str, shape: Sequence[int]) -> str:
        """Multiply by a layer scale."""
        return self.op("Mul", x, self.filled(shape, LAYER_SCALE))

    def reshape(self, x: str, *shape: int) -> str:
        """Give a value another shape."""
        return self.op("Reshape", x, self.integers(*shape))

    def attention(self, x: str, rows: int, width: int, heads: int, *, bias: bool) -> str:
        """Add multi-head self-attention over (rows, tokens, width), with its projection.

        ``rows`` is the batch as shapes have it: its size, or 0 for a free one.
        """
        depth = width // heads
        qkv = self.reshape(self.linear(x, width, 3 * width, bias=bias), rows, -1, 3, heads, depth)
        split = self.op("Transpose", qkv, perm=[2, 0, 3, 1, 4])
        query, key, value = (
            self.op("Gather", split, self.array(np.array(i, np.int64)), axis=0) for i in range(3)
        )
        query = self.op("Mul", query, self.array(np.array(depth**-0.5, np.float32)))
        scores = self.op("MatMul", query, self.op("Transpose", key, perm=[0, 1, 3, 2]))
        mixed = self.op("MatMul", self.op("Softmax", scores, axis=-1), value)
        joined = self.reshape(self.op("Transpose", mixed, perm=[0, 2, 1, 3]), rows, -1, width)
        return self.linear(joined, width, width)

    def finish(
        self,
        output: str,
        *,
        input_: tuple[str, int, Sequence[int]],
        named: tuple[str, Sequence[int]],
        batch: int | None,
    ) -> onnx.ModelProto:
        """Make the model.

        Args:
            output: the value that is the result.
            input_: name, ONNX type and shape of the input, without the batch.
            named: name and shape of the output, without the batch.
            batch: its size, None when it is free.

        """
        rows = "N" if batch is None else batch
        self._nodes.append(helper.make_node("Identity", [output], [named[0]]))
        graph = helper.make_graph(
            self._nodes,
            self._name,
            [helper.make_tensor_value_info(input_[0], input_[1], [rows, *input_[2]])],
            [helper.make_tensor_value_info(named[0], TensorProto.FLOAT, [rows, *named[1]])],
            self._weights,
        )
        opset = helper.make_opsetid("", OPSET)
        return helper.make_model(
            graph,
            opset_imports=[opset],
            ir_version=IR_VERSION,
            producer_name="cl-ml-serve stand-in",
        )


def parameter_count(model: onnx.ModelProto) -> int:
    """Count the trained numbers of a model."""
    tensors = model.graph.initializer
    return sum(int(np.prod(t.dims)) for t in tensors if t.data_type == TensorProto.FLOAT)
