"""Tiny stand-ins for DINOv2 and MobileCLIP, with the contracts of the published files.

``dinov2_vits14_stand_in`` is a vision transformer of one block, with its batch fixed at 1. The two
CLIP graphs know colours and nothing else: the embedding of a red picture is near to that of a text
with the word "red". Their tokenizer has a token for each byte and for each colour.
"""

from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np
from onnx import ModelProto, TensorProto

from benchmarks.stand_ins.builder import GraphBuilder
from benchmarks.stand_ins.catalogue import write_catalogue
from benchmarks.stand_ins.dinov2 import dinov2
from benchmarks.stand_ins.tokenizer import END_OF_WORD, clip_tokenizer
from deployments.runtime.models import ModelStore, load_catalogue

COLOURS = {
    "red": (255, 0, 0),
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
    "white": (255, 255, 255),
    "black": (0, 0, 0),
}
DINO = "dinov2_vits14_stand_in"
CLIP_IMAGE = "mobileclip_s0_image_stand_in"
CLIP_TEXT = "mobileclip_s0_text_stand_in"

_TOKENS = 77
_EMBEDDING_DIM = 512
_FEATURES = 8  # red, green, blue from -1 to 1, and five that tell similar inputs apart
_NOISE = 0.02
_CELLS = 8  # across and down the picture
_FILES = {
    "dinov2_vits14": "dinov2.onnx",
    "mobileclip_s0_image": "image.onnx",
    "mobileclip_s0_text": "text.onnx",
    "mobileclip_s0_tokenizer": "tokenizer.json",
}


def write_stand_ins(folder: Path) -> Path:
    """Write the stand-ins and a catalogue that has them beside the shipped models.

    Args:
        folder: an existing folder.

    Returns:
        The catalogue's path.

    """
    merges = _merges(COLOURS)
    tokenizer = clip_tokenizer(merges)
    tokenizer.save(str(folder / _FILES["mobileclip_s0_tokenizer"]))
    ids = {name: tokenizer.token_to_id(name + END_OF_WORD) for name in COLOURS}
    graphs = {
        "dinov2_vits14": dinov2(blocks=1, mlp_width=64),
        "mobileclip_s0_image": _image_graph(),
        "mobileclip_s0_text": _text_graph(tokenizer.get_vocab_size(), ids),
    }
    for name, model in graphs.items():
        (folder / _FILES[name]).write_bytes(model.SerializeToString(deterministic=True))
    return write_catalogue(folder, _FILES)


def install_stand_ins(folder: Path) -> ModelStore:
    """Write the stand-ins and install them into a cache of their own in the same folder."""
    store = ModelStore(load_catalogue(write_stand_ins(folder)), folder / "cache", offline=True)
    for name in (DINO, CLIP_IMAGE, CLIP_TEXT):
        store.pull(name)
    return store


def _image_graph() -> ModelProto:
    graph, to_embedding = _begin("tiny_image")
    cell = 256 // _CELLS
    pooled = graph.op(
        "AveragePool", "pixel_values", kernel_shape=[cell, cell], strides=[cell, cell]
    )
    weights = np.random.default_rng(1).normal(0, _NOISE, (3, _CELLS**2, _FEATURES))
    weights[:, :, :3] = np.eye(3)[:, None, :] * 2 / _CELLS**2
    product = graph.op(
        "MatMul",
        graph.op("Flatten", pooled),
        graph.array(weights.reshape(-1, _FEATURES).astype(np.float32)),
    )
    minus_one = np.array([-1, -1, -1, 0, 0, 0, 0, 0], np.float32)
    features = graph.op("Add", product, graph.array(minus_one))
    return graph.finish(
        graph.op("MatMul", features, to_embedding),
        input_=("pixel_values", TensorProto.FLOAT, [3, 256, 256]),
        named=("image_embeds", [_EMBEDDING_DIM]),
        batch=None,
    )


def _text_graph(vocabulary: int, colour_ids: Mapping[str, int | None]) -> ModelProto:
    graph, to_embedding = _begin("tiny_text")
    table = np.random.default_rng(2).normal(0, _NOISE, (vocabulary, _FEATURES)).astype(np.float32)
    table[0] = 0  # what texts are filled up with
    for name, token in colour_ids.items():
        table[token, :3] = np.array(COLOURS[name]) / 127.5 - 1
    rows = graph.op("Gather", graph.array(table), "input_ids", axis=0)
    summed = graph.op("ReduceSum", rows, graph.integers(1), keepdims=0)
    return graph.finish(
        graph.op("MatMul", summed, to_embedding),
        input_=("input_ids", TensorProto.INT64, [_TOKENS]),
        named=("text_embeds", [_EMBEDDING_DIM]),
        batch=None,
    )


def _begin(name: str) -> tuple[GraphBuilder, str]:
    """Begin a graph, with the projection into the one space of pictures and texts."""
    graph = GraphBuilder(name)
    return graph, graph.normal([_FEATURES, _EMBEDDING_DIM], 1.0)


def _merges(words: Iterable[str]) -> list[tuple[str, str]]:
    """Return merges that make each word one token."""
    merges: list[tuple[str, str]] = []
    for word in words:
        pieces = [*word[:-1], word[-1] + END_OF_WORD]
        while len(pieces) > 1:
            known = next((merge for merge in merges if merge in pairwise(pieces)), None)
            first, second = known or (pieces[0], pieces[1])
            if known is None:
                merges.append((first, second))
            at = list(pairwise(pieces)).index((first, second))
            pieces[at : at + 2] = [first + second]
    return merges
