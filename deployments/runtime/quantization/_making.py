"""From a model's graph to a variant with its figures; one call for each way to make one."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deployments.runtime.errors import ModelConversionError
from deployments.runtime.models import Attempt, Measure, VariantName
from deployments.runtime.quantization import _methods
from deployments.runtime.quantization._processor import Processor
from deployments.runtime.quantization._search import Report, find_float_layers
from deployments.runtime.quantization._speed import speed_ratio

SEARCH_MARGIN = 0.5
"""Share of the permitted loss that the search may use up: it looks at the photos that the scales
come from, which flatters them."""

EQUAL_SPEED = 0.05
"""Speeds that differ by less count as equal, as they do when a graph is measured twice."""

Judge = Callable[[Path], tuple[Measure, ...]]
"""Tells how far a graph agrees with float32."""


@dataclass(frozen=True, slots=True)
class Making:
    """What variants are made from and judged by.

    Attributes:
        base: the float32 graph.
        calibration: rows of the calibration photos, each of the graph's input without the batch.
        held_out: rows of the photos that nothing is learnt from.
        judge_calibration: by the calibration photos.
        judge_held_out: by the photos held out.
        processor: that runs it.

    """

    base: Path
    calibration: Sequence[NDArray[np.float32]]
    held_out: Sequence[NDArray[np.float32]]
    judge_calibration: Judge
    judge_held_out: Judge
    processor: Processor


@dataclass(frozen=True, slots=True)
class Candidate:
    """A variant's figures, and its file unless it could not be made."""

    attempt: Attempt
    file: Path | None = None


def make(variant: VariantName, making: Making, target: Path, report: Report) -> Candidate:
    """Make a variant and measure it.

    Args:
        variant: which one.
        making: of what.
        target: where its graph is written.
        report: is told of the progress.

    Returns:
        What came of it; a variant that can't be made of this graph is no error.

    """
    base_size_bytes = making.base.stat().st_size
    try:
        count, spared = _write(variant, making, target, report)
        report("validation", 0.95)
        agreement = making.judge_held_out(target)
        speed = speed_ratio(making.base, target, making.held_out)
    except ModelConversionError as error:
        reason = str(error)
        failed = Attempt(variant=variant, failure=reason, base_size_bytes=base_size_bytes)
        return Candidate(failed)
    attempt = Attempt(
        variant=variant,
        agreement=agreement,
        speed_ratio=speed,
        size_bytes=target.stat().st_size,
        base_size_bytes=base_size_bytes,
        layers=count,
        float_layers=spared,
    )
    return Candidate(attempt, target)


def best(candidates: Sequence[Candidate], *, unvalidated: bool = False) -> Candidate | None:
    """Choose the variant to keep, None where there is none.

    Of those that passed, the fastest; of about equally fast ones the smallest. Where none passed
    and ``unvalidated`` asks for one all the same, the one that agrees best.
    """
    made = [candidate for candidate in candidates if candidate.file is not None]
    passed = [candidate for candidate in made if candidate.attempt.passed]
    if passed:
        fastest = max(candidate.attempt.speed_ratio for candidate in passed)
        fast = [c for c in passed if c.attempt.speed_ratio >= fastest * (1 - EQUAL_SPEED)]
        return min(fast, key=lambda candidate: candidate.attempt.size_bytes)
    if not (unvalidated and made):
        return None
    return max(made, key=lambda candidate: candidate.attempt.agreement[0].value)


def _write(
    variant: VariantName, making: Making, target: Path, report: Report
) -> tuple[int, tuple[str, ...]]:
    """Write a variant's graph; return the number of its layers, and those left in float32.

    Raises:
        ModelConversionError: it can't be made of this graph.

    """
    try:
        with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
            prepared = Path(scratch) / "prepared.onnx"
            _methods.prepare(making.base, prepared)
            match variant:
                case "float16":
                    _methods.float16(prepared, target)
                case "int8_dynamic":
                    _methods.int8_dynamic(prepared, target, making.processor)
                case "int8":
                    return _write_int8(making, prepared, target, report)
    except ModelConversionError:
        raise
    # ONNX and ONNX Runtime's quantiser have no exceptions of their own to tell them by.
    except Exception as error:
        raise ModelConversionError(f"{type(error).__name__}: {error}") from error
    return 0, ()


def _write_int8(
    making: Making, prepared: Path, target: Path, report: Report
) -> tuple[int, tuple[str, ...]]:
    def good_enough(file: Path) -> bool:
        return all(
            measure.value >= 1 - SEARCH_MARGIN * (1 - measure.least)
            for measure in making.judge_calibration(file)
        )

    quantizer = _methods.StaticInt8(prepared, making.calibration, making.processor, prepared.parent)
    return len(quantizer.layers), find_float_layers(quantizer, good_enough, target, report)
