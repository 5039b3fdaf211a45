"""DINOv2 ViT-S/14 at 224 pixels, from the picture to the class token.

Sizes are those of ``vit_small`` in ``dinov2/models/vision_transformer.py`` of
facebookresearch/dinov2: patches of 14, 12 blocks of 384, 6 heads, an MLP of 1536 with exact GELU,
layer scale, LayerNorm with an epsilon of 1e-6. The position embeddings stand as they are after
interpolation to 16 x 16 patches. As in the published file the batch is fixed at 1.
"""

import onnx
from onnx import TensorProto

from benchmarks.stand_ins.builder import GraphBuilder

SIDE_PX = 224
PATCH_PX = 14
WIDTH = 384
HEADS = 6

_EPSILON = 1e-6


def dinov2(*, blocks: int = 12, mlp_width: int = 1536) -> onnx.ModelProto:
    """Build the graph: ``input`` (1, 3, 224, 224) float32 to ``output`` (1, 384) float32."""
    graph = GraphBuilder("dinov2_vits14_stand_in")
    side = SIDE_PX // PATCH_PX
    patches = side * side
    x = graph.conv("input", 3, WIDTH, (PATCH_PX, PATCH_PX), stride=PATCH_PX, padded=False)
    x = graph.op("Transpose", graph.reshape(x, 1, WIDTH, patches), perm=[0, 2, 1])
    class_token = graph.op("Expand", graph.normal([1, 1, WIDTH], 1.0), graph.integers(1, 1, WIDTH))
    x = graph.op("Concat", class_token, x, axis=1)
    x = graph.op("Add", x, graph.normal([1, patches + 1, WIDTH], 1.0))
    for _ in range(blocks):
        mixed = graph.attention(graph.layer_norm(x, WIDTH, _EPSILON), 1, WIDTH, HEADS, bias=True)
        x = graph.op("Add", x, graph.scaled(mixed, [WIDTH]))
        hidden = graph.linear(graph.layer_norm(x, WIDTH, _EPSILON), WIDTH, mlp_width)
        hidden = graph.linear(graph.op("Gelu", hidden), mlp_width, WIDTH)
        x = graph.op("Add", x, graph.scaled(hidden, [WIDTH]))
    x = graph.layer_norm(x, WIDTH, _EPSILON)
    x = graph.reshape(graph.op("Gather", x, graph.integers(0), axis=1), 1, WIDTH)
    return graph.finish(
        x,
        input_=("input", TensorProto.FLOAT, [3, SIDE_PX, SIDE_PX]),
        named=("output", [WIDTH]),
        batch=1,
    )
