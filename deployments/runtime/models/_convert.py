"""Runs the recorded conversion steps of an entry and checks the result against its contract.

Steps, in the catalogue's words:

``tflite_to_onnx``
    tflite2onnx's conversion; the graph's layout becomes NCHW.
``prelu_as_depthwise``, ``merge_convolutions``, ``fuse_transformer``
    For speed: see ``_rewrites_prelu``, ``_rewrites_merge`` and ``_rewrites_transformer``.
``fold_constants``, ``dynamic_batch``, ``canonical``
    See ``_rewrites``.

The result of each rewrite is compared with what it was made of, by running both.
"""

import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from deployments.runtime.atomic import atomic_write
from deployments.runtime.errors import ModelConversionError
from deployments.runtime.models import (
    _rewrites,
    _rewrites_merge,
    _rewrites_prelu,
    _rewrites_transformer,
)
from deployments.runtime.models._entry import Contract, ModelEntry

RELATIVE_TOLERANCE = 1e-5
"""How far a rewritten graph may be off, as a share of its largest output. Float32 rounding of a
different order of additions gives about 1e-6 on the models in use, 2e-7 on a vision transformer."""

_REWRITES: dict[str, Callable[..., onnx.ModelProto]] = {
    "prelu_as_depthwise": _rewrites_prelu.prelu_as_depthwise,
    "merge_convolutions": _rewrites_merge.merge_convolutions,
    "fold_constants": _rewrites.fold_constants,
    "dynamic_batch": _rewrites.dynamic_batch,
    "fuse_transformer": _rewrites_transformer.fuse_transformer,
    "canonical": _rewrites.canonical,
}


def convert(entry: ModelEntry, source: Path, target: Path) -> None:
    """Convert an entry's source file and write the result to ``target``.

    Raises:
        ModelConversionError: a step failed, changed the graph's outputs, or the result does not
            fulfil the entry's contract.

    """
    assert entry.convert, "only called for entries with a conversion"  # noqa: S101 - narrows the type
    step_name = "reading the source"
    try:
        steps = list(entry.convert.steps)
        if steps[0].step == "tflite_to_onnx":
            step_name = steps.pop(0).step
            model = _tflite_to_onnx(source)
        else:
            model = onnx.load_model(source)
        for step in steps:
            step_name = step.step
            rewritten = _REWRITES[step.step](model, **step.args)
            _require_equal(model, rewritten)
            model = rewritten
        step_name = "the contract"
        if entry.contract:
            _require_contract(model, entry.contract)
    except ModelConversionError as error:
        raise ModelConversionError(f"{entry.name}: {step_name}: {error}") from error
    # Three libraries, each with its own exceptions, plain AssertionError among them.
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise ModelConversionError(f"{entry.name}: {step_name} failed: {reason}") from error
    with atomic_write(target) as file:
        file.write(model.SerializeToString(deterministic=True))


def _tflite_to_onnx(source: Path) -> onnx.ModelProto:
    with _quiet_tflite2onnx(), tempfile.TemporaryDirectory() as folder:
        import tflite2onnx  # noqa: PLC0415 - only this step needs it, and quietly

        converted = Path(folder) / "model.onnx"
        tflite2onnx.convert(str(source), str(converted))
        return onnx.load_model(converted)


@contextmanager
def _quiet_tflite2onnx() -> Iterator[None]:
    """Keep the converter's remarks on float16 weights to itself; failures are exceptions."""
    logger = logging.getLogger("tflite2onnx")
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)


def _session(model: onnx.ModelProto) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3  # errors; unused constants are the canonical step's business
    return ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def _require_equal(before: onnx.ModelProto, after: onnx.ModelProto) -> None:
    """Run both graphs on seeded noise, ``after`` also in other batch sizes where it takes them."""
    old, new = _session(before), _session(after)
    shape = old.get_inputs()[0].shape
    batch = shape[0] if isinstance(shape[0], int) else 1
    rng = np.random.default_rng(0)
    free = not isinstance(new.get_inputs()[0].shape[0], int)
    # 1, 2 and 5 rows, as whole runs of the old graph, which may only take a fixed number.
    for rows in (1, 2, 5) if free else (batch,):
        runs = -(-rows // batch)
        images = rng.uniform(-1, 1, (runs * batch, *shape[1:])).astype(np.float32)
        parts = [_run(old, images[i * batch : (i + 1) * batch]) for i in range(runs)]
        expected = [np.concatenate(outputs)[:rows] for outputs in zip(*parts, strict=True)]
        for want, got in zip(expected, _run(new, images[:rows]), strict=True):
            if want.shape != got.shape:
                raise ModelConversionError(f"gives {got.shape} instead of {want.shape}")
            difference = float(np.abs(want - got).max() / max(np.abs(want).max(), 1e-6))
            if not difference <= RELATIVE_TOLERANCE:
                raise ModelConversionError(
                    f"changes the output by {difference:.1e}, at most {RELATIVE_TOLERANCE} is right"
                )


def _run(session: ort.InferenceSession, images: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    return [
        np.asarray(output) for output in session.run(None, {session.get_inputs()[0].name: images})
    ]


def _require_contract(model: onnx.ModelProto, contract: Contract) -> None:
    session = _session(model)
    for kind, nodes, tensors in (
        ("input", session.get_inputs(), (contract.input,)),
        ("output", session.get_outputs(), contract.outputs),
    ):
        found = [
            (node.name, tuple(d if isinstance(d, int) else None for d in node.shape))
            for node in nodes
        ]
        expected = [
            (tensor.name or name, tensor.shape)
            for tensor, (name, _) in zip(tensors, found, strict=False)
        ]
        if found != expected:
            raise ModelConversionError(f"the graph's {kind}s are {found}, expected {expected}")
