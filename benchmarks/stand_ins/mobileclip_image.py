"""MobileCLIP-S0's image tower: FastViT-MCi0 with a projection to 512 numbers.

Sizes are those of ``mci0`` in ``mobileclip/models/mci.py`` of apple/ml-mobileclip, in the form that
``reparameterize_model`` gives and that was published: one convolution in place of each set of
parallel branches, batch normalisation folded into the convolution before it.
"""

import onnx
from onnx import TensorProto

from benchmarks.stand_ins.builder import GraphBuilder

SIDE_PX = 256
EMBEDDING_DIM = 512
WIDTHS = (64, 128, 256, 512)
BLOCKS = (2, 6, 10, 2)

_MLP_RATIO = 3
_HEAD_WIDTH = 32
_SQUEEZED_FROM_STAGE = 2  # patch embeddings before the third and fourth stage squeeze and excite
_EXPANSION = 2  # of the last convolution


def mobileclip_image() -> onnx.ModelProto:
    """Build it: ``pixel_values`` (N, 3, 256, 256) to ``image_embeds`` (N, 512), all float32."""
    graph = GraphBuilder("mobileclip_s0_image_stand_in")
    x = _stem(graph)
    last = len(WIDTHS) - 1
    for stage, (width, blocks) in enumerate(zip(WIDTHS, BLOCKS, strict=True)):
        if stage:
            x = _patch_embedding(graph, x, width, squeezed=stage >= _SQUEEZED_FROM_STAGE)
        if stage == last:  # conditional position encoding
            x = graph.conv(x, width, width, (7, 7), groups=width)
        for _ in range(blocks):
            x = _attention_block(graph, x, width) if stage == last else _mixer(graph, x, width)
    width = WIDTHS[-1] * _EXPANSION
    x = graph.conv(x, WIDTHS[-1], width, (3, 3), groups=WIDTHS[-1])
    x = graph.op("Gelu", _squeeze_and_excite(graph, x, width, width // 16))
    x = graph.op("Flatten", graph.op("GlobalAveragePool", x))
    x = graph.linear(x, width, EMBEDDING_DIM, bias=False)
    return graph.finish(
        x,
        input_=("pixel_values", TensorProto.FLOAT, [3, SIDE_PX, SIDE_PX]),
        named=("image_embeds", [EMBEDDING_DIM]),
        batch=None,
    )


def _stem(graph: GraphBuilder) -> str:
    width = WIDTHS[0]
    x = graph.op("Gelu", graph.conv("pixel_values", 3, width, (3, 3), stride=2))
    x = graph.op("Gelu", graph.conv(x, width, width, (3, 3), stride=2, groups=width))
    return graph.op("Gelu", graph.conv(x, width, width))


def _patch_embedding(graph: GraphBuilder, x: str, width: int, *, squeezed: bool) -> str:
    """Halve the size and double the width."""
    x = graph.conv(x, width // 2, width, (7, 7), stride=2, groups=width // 2)
    if squeezed:
        x = _squeeze_and_excite(graph, x, width, width // 4)
    return graph.op("Gelu", graph.conv(graph.op("Gelu", x), width, width))


def _squeeze_and_excite(graph: GraphBuilder, x: str, width: int, squeezed: int) -> str:
    pooled = graph.op("GlobalAveragePool", x)
    hidden = graph.op("Relu", graph.conv(pooled, width, squeezed))
    return graph.op("Mul", x, graph.op("Sigmoid", graph.conv(hidden, squeezed, width)))


def _mixer(graph: GraphBuilder, x: str, width: int) -> str:
    return _with_mlp(graph, graph.conv(x, width, width, (3, 3), groups=width), width)


def _attention_block(graph: GraphBuilder, x: str, width: int) -> str:
    ones, zeros = graph.filled([width], 1.0), graph.filled([width], 0.0)
    norm = graph.op("BatchNormalization", x, ones, graph.bias(width), zeros, ones)
    side = SIDE_PX // 32  # halved by the stem twice, and before each of three stages
    tokens = graph.op("Transpose", graph.reshape(norm, 0, width, side * side), perm=[0, 2, 1])
    mixed = graph.attention(tokens, 0, width, width // _HEAD_WIDTH, bias=False)
    mixed = graph.reshape(graph.op("Transpose", mixed, perm=[0, 2, 1]), 0, width, side, side)
    return _with_mlp(graph, graph.op("Add", x, graph.scaled(mixed, [width, 1, 1])), width)


def _with_mlp(graph: GraphBuilder, x: str, width: int) -> str:
    hidden = graph.conv(x, width, width, (7, 7), groups=width)
    hidden = graph.op("Gelu", graph.conv(hidden, width, width * _MLP_RATIO))
    hidden = graph.conv(hidden, width * _MLP_RATIO, width)
    return graph.op("Add", x, graph.scaled(hidden, [width, 1, 1]))
