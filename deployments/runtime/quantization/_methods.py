"""The three ways to make a graph smaller or faster, on top of ONNX Runtime's own quantiser.

``float16``
    Large weights are stored as float16 and cast back to float32 when the graph is loaded, where
    ONNX Runtime computes the casts once: half the file, float32's speed and, nearly, its results.
``int8_dynamic``
    Matrix products in 8 bits, whose activations are scaled anew in every run: needs no
    calibration. Convolutions stay in float32: in 8 bits they took nine times as long, and
    MobileFaceNet's cosine to float32 fell to 0.74.
``int8``
    Convolutions and matrix products in 8 bits, with scales from calibration (QDQ, per channel).
    What lies between them stays in float32: with additions, too, in 8 bits BlazeFace was a fifth
    faster and lost five times as much. So do products of two activations, as in attention.
"""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper, version_converter
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from deployments.runtime.errors import ModelConversionError
from deployments.runtime.quantization._processor import Processor

LEAST_OPSET = 13
"""The first of ONNX's in which a weight can have a scale per channel."""

MIN_FLOAT16_ELEMENTS = 256
"""Of a weight that is stored as float16: below that the cast takes as many bytes as it saves."""

_PRODUCTS = ("MatMul", "Gemm")
_LAYERS = ("Conv", *_PRODUCTS)


def prepare(base: Path, target: Path) -> None:
    """Write a graph in the form from which the others are made, of equal outputs.

    Constants are folded, shapes are inferred, and the operators are of a version that can be
    quantised per channel. Shapes are inferred by ONNX alone: the symbolic inference of ONNX Runtime
    needs SymPy, and the weights' layers are found without it.
    """
    model = onnx.load_model(base)
    opset = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
    if opset < LEAST_OPSET:
        model = version_converter.convert_version(model, LEAST_OPSET)
    # As a file: of a model in memory it looks for weights in a file that it does not write.
    onnx.save_model(model, target)
    quant_pre_process(target, target, skip_symbolic_shape=True)


def float16(prepared: Path, target: Path) -> None:
    """Write a graph with its large weights as float16.

    Raises:
        ModelConversionError: it has none.

    """
    model = onnx.load_model(prepared)
    graph = model.graph
    kept: list[TensorProto] = []
    casts: list[onnx.NodeProto] = []
    for tensor in graph.initializer:
        small = _as_float16(tensor)
        kept.append(tensor if small is None else small)
        if small is not None:
            casts.append(
                helper.make_node(
                    "Cast", [small.name], [tensor.name], name=small.name, to=TensorProto.FLOAT
                )
            )
    if not casts:
        raise ModelConversionError("the graph has no large float32 weights")
    nodes = [*casts, *graph.node]
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(kept)
    graph.node.extend(nodes)
    onnx.save_model(model, target)


def _as_float16(tensor: TensorProto) -> TensorProto | None:
    """Return a weight as float16 under a name of its own, None where it has to stay as it is."""
    if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < MIN_FLOAT16_ELEMENTS:
        return None
    values = numpy_helper.to_array(tensor)
    if np.abs(values).max() > np.finfo(np.float16).max:
        return None
    return numpy_helper.from_array(values.astype(np.float16), f"{tensor.name}/float16")


def int8_dynamic(prepared: Path, target: Path, processor: Processor) -> None:
    """Write a graph with its matrix products in 8 bits.

    Raises:
        ModelConversionError: it has none with a constant weight.

    """
    if not layers(prepared, _PRODUCTS):
        raise ModelConversionError("the graph has no matrix product, and convolutions only lose")
    quantize_dynamic(
        prepared,
        target,
        op_types_to_quantize=list(_PRODUCTS),
        per_channel=True,
        reduce_range=processor.seven_bit_weights,
        weight_type=QuantType.QInt8,
        extra_options={"MatMulConstBOnly": True},
    )


class StaticInt8:
    """Writes graphs with chosen layers in 8 bits; calibrates once.

    Attributes:
        prepared: the graph in float32.
        rows: what it is calibrated with.
        layers: names of the nodes that can be in 8 bits, in the graph's order.

    """

    def __init__(
        self,
        prepared: Path,
        rows: Sequence[NDArray[np.float32]],
        processor: Processor,
        folder: Path,
    ) -> None:
        """Keep the settings.

        Args:
            prepared: a graph that ``prepare`` has written.
            rows: what to calibrate with, each of the graph's input without the batch.
            processor: that is to run it.
            folder: for what is kept between two graphs.

        Raises:
            ModelConversionError: the graph has no such layer.

        """
        self.layers = layers(prepared, _LAYERS)
        if not self.layers:
            raise ModelConversionError("the graph has no convolution or matrix product")
        self.prepared = prepared
        self.rows = rows
        self._processor = processor
        self._ranges = folder / "ranges.json"

    def write(self, target: Path, chosen: Collection[str]) -> None:
        """Write the graph with the chosen layers, at least one, in 8 bits."""
        signed = self._processor.signed_activations
        quantize_static(
            self.prepared,
            target,
            _Rows(self.prepared, self.rows),
            op_types_to_quantize=list(_LAYERS),
            per_channel=True,
            reduce_range=self._processor.seven_bit_weights,
            activation_type=QuantType.QInt8 if signed else QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_quantize=list(chosen),
            calibration_cache_path=self._ranges,
        )


class _Rows(CalibrationDataReader):
    """Gives ONNX Runtime the calibration's rows, one at a time."""

    def __init__(self, graph: Path, rows: Sequence[NDArray[np.float32]]) -> None:
        name = onnx.load_model(graph, load_external_data=False).graph.input[0].name
        self._left: Iterator[dict[str, Any]] = iter([{name: row[None]} for row in rows])

    def get_next(self) -> dict[str, Any]:
        return next(self._left, None)  # pyright: ignore[reportReturnType] - None ends it


def layers(graph: Path, kinds: Collection[str]) -> tuple[str, ...]:
    """Name the nodes of some kinds that have a constant weight, in the graph's order."""
    model = onnx.load_model(graph)
    constants = {tensor.name for tensor in model.graph.initializer}
    return tuple(
        node.name
        for node in model.graph.node
        if node.op_type in kinds and node.input[1] in constants
    )
