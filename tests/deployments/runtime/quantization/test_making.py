"""Variants of small graphs: that they are made, what of them is left in float32, and the choice."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from benchmarks.stand_ins.builder import GraphBuilder
from deployments.runtime.models import Attempt, Measure, VariantName
from deployments.runtime.onnx_session import OnnxSession
from deployments.runtime.quantization import (
    Candidate,
    Making,
    Processor,
    best,
    cosine_agreement,
    make,
    speed_ratio,
)
from tests.deployments.runtime.quantization.graphs import (
    conv_and_product,
    one_sensitive_layer,
    rows,
    write,
)
from tests.deployments.runtime.variants_support import attempt

X86 = Processor("x86", signed_activations=False, seven_bit_weights=False)
ARM = Processor("arm", signed_activations=True, seven_bit_weights=False)
OLD_X86 = Processor("old x86", signed_activations=False, seven_bit_weights=True)


def quiet(text: str, share: float) -> None:
    """Show no progress."""


def making_of(base: Path, processor: Processor = X86) -> Making:
    """Judge variants of a graph by the cosine of its output on made-up inputs."""
    learnt, held_out = rows(8), rows(4, seed=1)

    def judge(file: Path, batch: np.ndarray) -> tuple[Measure, ...]:
        expected, found = (OnnxSession(path, provider="cpu").run(batch)[0] for path in (base, file))
        return cosine_agreement(expected, found)

    return Making(
        base=base,
        calibration=learnt,
        held_out=held_out,
        judge_calibration=lambda file: judge(file, np.stack(learnt)),
        judge_held_out=lambda file: judge(file, np.stack(held_out)),
        processor=processor,
    )


def made(
    variant: VariantName, base: Path, processor: Processor = X86
) -> tuple[Attempt, onnx.ModelProto]:
    """Make a variant; return its figures and its graph."""
    target = base.with_name("variant.onnx")
    found = make(variant, making_of(base, processor), target, quiet)
    assert (None, target) == (found.attempt.failure, found.file)
    return found.attempt, onnx.load_model(target)


def test_float16(tmp_path: Path) -> None:
    """Large weights take half their size, and the graph takes and gives what it did."""
    figures, model = made("float16", conv_and_product(tmp_path / "g.onnx"))
    kinds = Counter(tensor.data_type for tensor in model.graph.initializer)
    assert 3 == kinds[TensorProto.FLOAT16]  # one convolution and two products; not its 16 biases
    assert figures.size_ratio < 0.55
    assert figures.is_accurate
    assert TensorProto.FLOAT == model.graph.input[0].type.tensor_type.elem_type


def test_float16_leaves_what_does_not_fit(tmp_path: Path) -> None:
    """A weight beyond the range of float16 stays as it is."""
    graph = GraphBuilder("large")
    x = graph.op("Flatten", "input")
    x = graph.op("MatMul", x, graph.array(np.full((192, 16), 1e6, np.float32)))
    output = graph.linear(x, 16, 16, bias=False)
    path = write(graph, output, tmp_path / "g.onnx", 16)
    _, model = made("float16", path)
    kinds = sorted(tensor.data_type for tensor in model.graph.initializer)
    assert [TensorProto.FLOAT, TensorProto.FLOAT16] == kinds


def test_int8_dynamic(tmp_path: Path) -> None:
    """Products are in 8 bits, convolutions are not."""
    figures, model = made("int8_dynamic", conv_and_product(tmp_path / "g.onnx"))
    kinds = Counter(node.op_type for node in model.graph.node)
    assert (1, 2, 0) == (kinds["Conv"], kinds["MatMulInteger"], kinds["MatMul"])
    assert figures.is_accurate


@pytest.mark.parametrize(
    ("processor", "activations", "largest_weight"),
    [
        (X86, TensorProto.UINT8, 127),
        (ARM, TensorProto.INT8, 127),
        (OLD_X86, TensorProto.UINT8, 64),
    ],
    ids=lambda value: value.title if isinstance(value, Processor) else None,
)
def test_int8(tmp_path: Path, processor: Processor, activations: int, largest_weight: int) -> None:
    """All layers are in 8 bits where that agrees, in the form that the processor is fast with."""
    figures, model = made("int8", conv_and_product(tmp_path / "g.onnx"), processor)
    assert (3, ()) == (figures.layers, figures.float_layers)
    assert figures.is_accurate
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    zeros = {n.input[2] for n in model.graph.node if n.op_type == "QuantizeLinear"}
    assert {activations} == {
        onnx.helper.np_dtype_to_tensor_dtype(constants[z].dtype) for z in zeros
    }
    weights = [v for v in constants.values() if v.dtype == np.int8 and v.ndim > 1]
    assert 3 == len(weights)
    assert largest_weight == max(int(np.abs(weight.astype(int)).max()) for weight in weights)


def test_int8_spares_the_sensitive_layer(tmp_path: Path) -> None:
    """Only the layer that loses too much stays in float32."""
    figures, model = made("int8", one_sensitive_layer(tmp_path / "g.onnx"))
    kinds = Counter(node.op_type for node in model.graph.node)
    assert (2, ("matmul_2",)) == (figures.layers, figures.float_layers)
    assert figures.is_accurate
    assert 2 == kinds["QuantizeLinear"]  # before and after the other product


def test_int8_that_never_agrees(tmp_path: Path) -> None:
    """Where no choice of layers agrees, the figures are of all layers, and the variant fails."""
    making = making_of(conv_and_product(tmp_path / "g.onnx"))

    def never(_: Path) -> tuple[Measure, ...]:
        return (Measure(name="mean cosine", value=0.5, least=0.99),)

    hard = Making(
        base=making.base,
        calibration=making.calibration,
        held_out=making.held_out,
        judge_calibration=never,
        judge_held_out=never,
        processor=X86,
    )
    seen: list[str] = []
    found = make("int8", hard, tmp_path / "v.onnx", lambda *shown: seen.append(str(shown[0])))
    assert ((), False) == (found.attempt.float_layers, found.attempt.passed)
    assert ["layer 1 of 3 alone in 8 bits", "2 of 3 layers in float32", "validation"] == [
        seen[1],
        seen[-2],
        seen[-1],
    ]


@pytest.mark.parametrize(
    ("variant", "reason"),
    [
        ("float16", "no large float32 weights"),
        ("int8_dynamic", "no matrix product"),
        ("int8", "no convolution or matrix product"),
    ],
)
def test_not_for_this_graph(tmp_path: Path, variant: VariantName, reason: str) -> None:
    """What can't be made of a graph is told in the attempt, and is no error."""
    graph = GraphBuilder("bare")
    output = graph.op("Flatten", graph.op("AveragePool", "input", kernel_shape=[8, 8]))
    path = write(graph, output, tmp_path / "g.onnx", 3)
    found = make(variant, making_of(path), tmp_path / "v.onnx", quiet)
    assert found.file is None
    assert reason in found.attempt.verdict


def test_not_a_graph(tmp_path: Path) -> None:
    """What the quantiser makes of a graph that it can't read is told in the attempt too."""
    making = making_of(conv_and_product(tmp_path / "g.onnx"))
    making.base.write_bytes(b"no graph")
    found = make("float16", making, tmp_path / "v.onnx", quiet)
    assert found.attempt.verdict.startswith("not made: DecodeError")


FAST = attempt("int8", speed_ratio=2.0, size_bytes=60)
AS_FAST = attempt("int8_dynamic", speed_ratio=1.95, size_bytes=30)
SLOW = attempt("float16", speed_ratio=1.0, size_bytes=20)
WRONG = attempt("int8", cosine=0.6, speed_ratio=9.0)
WORSE = attempt("int8_dynamic", cosine=0.5, speed_ratio=9.0)
MISSING = Attempt(variant="int8", failure="no layer", base_size_bytes=1)


@pytest.mark.parametrize(
    ("attempts", "unvalidated", "expected"),
    [
        ([], True, None),
        ([MISSING], True, None),
        ([SLOW, FAST], False, FAST),
        ([SLOW, FAST, AS_FAST], False, AS_FAST),
        ([WRONG, SLOW], True, SLOW),
        ([WRONG, WORSE], False, None),
        ([WORSE, WRONG, MISSING], True, WRONG),
    ],
)
def test_choice(attempts: list[Attempt], unvalidated: bool, expected: Attempt | None) -> None:  # noqa: FBT001 - a column
    """The fastest that passed is kept, of equally fast ones the smallest."""
    candidates = [Candidate(a, None if a is MISSING else Path(a.variant)) for a in attempts]
    chosen = best(candidates, unvalidated=unvalidated)
    assert expected == (chosen and chosen.attempt)


def test_speed_is_of_the_second_graph(tmp_path: Path) -> None:
    """A graph that does far more work is slower, in whichever order they are given."""
    small = conv_and_product(tmp_path / "small.onnx")
    graph = GraphBuilder("long")
    x = graph.conv("input", 3, 64, (3, 3))
    for _ in range(30):
        x = graph.conv(x, 64, 64, (3, 3))
    x = graph.op("Flatten", graph.op("GlobalAveragePool", x))
    large = write(graph, x, tmp_path / "large.onnx", 64)
    assert speed_ratio(small, large, rows(2)) < 1 < speed_ratio(large, small, rows(2))
