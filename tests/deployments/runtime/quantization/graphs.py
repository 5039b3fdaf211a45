"""Small graphs to quantise, built by code, and what a model is run on."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from benchmarks.stand_ins.builder import GraphBuilder

SIDE_PX = 8
_PIXELS = 3 * SIDE_PX**2


def conv_and_product(path: Path) -> Path:
    """Write a convolution and two matrix products, of (N, 3, 8, 8) to (N, 16)."""
    graph = GraphBuilder("small")
    x = graph.op("Relu", graph.conv("input", 3, 16, (3, 3)))
    x = graph.op("Flatten", x)
    x = graph.linear(x, 16 * SIDE_PX**2, 32, bias=False)
    return write(graph, graph.linear(x, 32, 16, bias=False), path)


def one_sensitive_layer(path: Path) -> Path:
    """Write two matrix products, of which the first can't be in 8 bits: it is ``matmul_2``.

    One of its inputs is a thousand times as large as the others and has no weight, so a scale for
    all of them leaves nothing of the others.
    """
    graph = GraphBuilder("sensitive")
    x = graph.op("Flatten", "input")
    scale = np.ones(_PIXELS, np.float32)
    scale[0] = 1000
    x = graph.op("Mul", x, graph.array(scale))
    weight = np.random.default_rng(0).normal(0, _PIXELS**-0.5, (_PIXELS, 32)).astype(np.float32)
    weight[0] = 0
    x = graph.op("MatMul", x, graph.array(weight))
    return write(graph, graph.linear(x, 32, 16, bias=False), path)


def write(graph: GraphBuilder, output: str, path: Path, width: int = 16) -> Path:
    """Write a graph of (N, 3, 8, 8) to (N, ``width``)."""
    model = graph.finish(
        output,
        input_=("input", TensorProto.FLOAT, [3, SIDE_PX, SIDE_PX]),
        named=("output", [width]),
        batch=None,
    )
    path.write_bytes(model.SerializeToString())
    return path


def rows(count: int, seed: int = 0) -> list[NDArray[np.float32]]:
    """Make up inputs of these graphs, each without the batch."""
    return list(np.random.default_rng(seed).random((count, 3, SIDE_PX, SIDE_PX), np.float32))
