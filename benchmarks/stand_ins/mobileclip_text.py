"""MobileCLIP-S0's text tower, the variant "mct".

Sizes are those of ``mobileclip_s0.json`` and ``mobileclip/text_encoder.py`` of
apple/ml-mobileclip: 77 tokens of 49,408, 4 transformer layers of 512 with 8 heads and an MLP of
2048, no causal mask, and a convolutional block over 11 tokens before and after them, in the form
that ``reparameterize_model`` gives. The embedding is taken at the end token, the highest id.
"""

import numpy as np
import onnx
from onnx import TensorProto

from benchmarks.stand_ins.builder import GraphBuilder

TOKENS = 77
VOCABULARY = 49_408
WIDTH = 512
EMBEDDING_DIM = 512

_LAYERS = 4
_HEADS = 8
_MLP_WIDTH = 2048
_KERNEL = (1, 11)
_EPSILON = 1e-5


def mobileclip_text() -> onnx.ModelProto:
    """Build the graph: ``input_ids`` (N, 77) int64 to ``text_embeds`` (N, 512) float32."""
    graph = GraphBuilder("mobileclip_s0_text_stand_in")
    x = graph.op("Gather", graph.normal([VOCABULARY, WIDTH], 1.0), "input_ids", axis=0)
    x = graph.op("Add", x, graph.normal([1, TOKENS, WIDTH], WIDTH**-0.5))
    x = _mixer(graph, x)
    for _ in range(_LAYERS):
        mixed = graph.attention(graph.layer_norm(x, WIDTH, _EPSILON), 0, WIDTH, _HEADS, bias=True)
        x = graph.op("Add", x, mixed)
        hidden = graph.linear(graph.layer_norm(x, WIDTH, _EPSILON), WIDTH, _MLP_WIDTH)
        x = graph.op("Add", x, graph.linear(graph.op("Gelu", hidden), _MLP_WIDTH, WIDTH))
    x = graph.layer_norm(_mixer(graph, x), WIDTH, _EPSILON)
    end = graph.op("ArgMax", "input_ids", axis=-1, keepdims=1)
    x = graph.op("GatherND", x, end, batch_dims=1)
    x = graph.linear(x, WIDTH, EMBEDDING_DIM, bias=False)
    return graph.finish(
        x,
        input_=("input_ids", TensorProto.INT64, [TOKENS]),
        named=("text_embeds", [EMBEDDING_DIM]),
        batch=None,
    )


def _mixer(graph: GraphBuilder, x: str) -> str:
    """Mix neighbouring tokens: (N, 77, 512) to the same shape."""
    axis = graph.array(np.array([2], np.int64))
    x = graph.op("Unsqueeze", graph.op("Transpose", x, perm=[0, 2, 1]), axis)
    x = graph.conv(x, WIDTH, WIDTH, _KERNEL, groups=WIDTH)
    hidden = graph.conv(x, WIDTH, WIDTH, _KERNEL, groups=WIDTH)
    hidden = graph.op("Gelu", graph.conv(hidden, WIDTH, _MLP_WIDTH))
    hidden = graph.conv(hidden, _MLP_WIDTH, WIDTH)
    x = graph.op("Add", x, graph.scaled(hidden, [WIDTH, 1, 1]))
    return graph.op("Transpose", graph.op("Squeeze", x, axis), perm=[0, 2, 1])
