"""Runs one ONNX graph, batch axis first, on the best device that the node has.

Sessions are set up for a machine that runs many of them side by side: no thread spins while it
waits, and memory is kept small. Measured on x86-64, one thread, MobileFaceNet at batch 8, as
growth of the process / time per image: arena without memory pattern 85 MB / 6.8 ms; with memory
pattern 128 MB / 6.8 ms; no arena 154 MB at its peak / 8.8 ms; arena shrunk after every run
135 MB / 8.8 ms. BlazeFace gives the same order, and so does batch 1 within a few MB.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from deployments.runtime.errors import ConfigError, ModelIntegrityError
from deployments.runtime.mapped_weights import with_mapped_weights

_RUNTIME_NAMES = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "migraphx": "MIGraphXExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "xnnpack": "XnnpackExecutionProvider",
}
PROVIDERS = ("auto", *_RUNTIME_NAMES)
"""What the YAML may ask for."""

AUTO_ORDER = ("cuda", "migraphx", "openvino", "cpu")
"""Best first. TensorRT builds its engine for minutes at start, CoreML and XNNPACK take over parts
of a graph only, which can be slower than the CPU alone: these are used when asked for by name."""

_DTYPES: dict[str, type[np.generic]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(uint8)": np.uint8,
}

_LOG_ERRORS_ONLY = 3

CPU_ROWS_PER_RUN = 4
"""Rows that several threads of a CPU take at once; a single thread takes them one by one. Measured
on x86-64, in ms a row at 1, 4 and 16 rows: BlazeFace with one thread 3.5, 4.4 and 5.5, as more
rows leave the processor's cache, with two threads 4.9, 3.8 and 3.4; MobileFaceNet with one thread
5.1, 6.6 and 7.3, with two 5.9, 4.7 and 7.5."""
DEVICE_ROWS_PER_RUN = 64
"""On another device than the CPU, which needs many rows to be busy; bounds its memory."""


class OnnxSession:
    """One loaded graph with one input. Threads may call ``run`` at the same time.

    Attributes:
        provider: The name in ``PROVIDERS`` of what runs the graph; never ``auto``.
        input_name: The input's name in the graph.
        input_shape: The input's shape; None where a dimension is free.
        input_dtype: The input's NumPy type.
        output_names: The outputs' names in the graph's order, which is the order of results.
        output_shapes: The outputs' shapes; None where a dimension is free.

    """

    def __init__(self, path: Path, *, provider: str = "auto", num_threads: int = 1) -> None:
        """Load a graph.

        Args:
            path: The ONNX file.
            provider: One of ``PROVIDERS``; ``auto`` takes the best that works on this node.
            num_threads: Threads that one inference uses on a CPU, at least 1.

        Raises:
            ConfigError: ``provider`` or ``num_threads`` is not possible, or not on this node.
            ModelIntegrityError: the file is not a graph with one input that can be loaded.

        """
        if num_threads < 1:
            raise ConfigError(f"num_threads: expected at least 1, got {num_threads}")
        self.path = path
        self._num_threads = num_threads
        self.provider, self._session = self._open(provider)
        if self.provider == "cpu":
            self._rows_per_run = 1 if num_threads == 1 else CPU_ROWS_PER_RUN
        else:
            self._rows_per_run = DEVICE_ROWS_PER_RUN
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1:
            raise ModelIntegrityError(
                f"{path}: expected a graph with one input, got {[node.name for node in inputs]}"
            )
        if inputs[0].type not in _DTYPES:
            raise ModelIntegrityError(
                f"{path}: the input's type is {inputs[0].type}, expected one of {list(_DTYPES)}"
            )
        self.input_name: str = inputs[0].name
        self.input_shape = _shape(inputs[0])
        self.input_dtype = _DTYPES[inputs[0].type]
        self.output_names: tuple[str, ...] = tuple(node.name for node in outputs)
        self.output_shapes = tuple(_shape(node) for node in outputs)
        self._output_dtypes = [_DTYPES.get(node.type, np.float32) for node in outputs]

    @property
    def gains_from_batches(self) -> bool:
        """Whether many rows at once take less than one by one, as one thread takes them."""
        return self._rows_per_run > 1

    def run(self, batch: NDArray[Any]) -> list[NDArray[Any]]:
        """Run the graph on any number of rows.

        A graph whose batch is fixed is run as often as it takes, so callers always batch.

        Args:
            batch: Shape (N, ...) as ``input_shape``, of ``input_dtype``. N may be 0.

        The rows go to the runtime in pieces of the size that its device is fastest with.

        Returns:
            One array per output, each with N rows in the order of ``batch``.

        Raises:
            ValueError: the shape or the type of ``batch`` is not what the graph takes.

        """
        self._check(batch)
        if len(batch) == 0:
            return [
                np.empty((0, *(size or 0 for size in shape[1:])), dtype)
                for shape, dtype in zip(self.output_shapes, self._output_dtypes, strict=True)
            ]
        rows = self.input_shape[0] or self._rows_per_run
        if len(batch) <= rows and self.input_shape[0] in (None, len(batch)):
            return self._infer(batch)
        chunks = [self._infer_padded(batch[i : i + rows]) for i in range(0, len(batch), rows)]
        return [np.concatenate(parts)[: len(batch)] for parts in zip(*chunks, strict=True)]

    def warm_up(self, batch_sizes: Iterable[int] = (1,)) -> None:
        """Run zeros once per batch size, so that the first request does not pay for set-up.

        Free dimensions other than the batch are taken as 1.
        """
        rest = tuple(size or 1 for size in self.input_shape[1:])
        for rows in batch_sizes:
            self.run(np.zeros((rows, *rest), self.input_dtype))

    def _open(self, provider: str) -> tuple[str, ort.InferenceSession]:
        runtime_has = set(ort.get_available_providers())
        available = [name for name in _RUNTIME_NAMES if _RUNTIME_NAMES[name] in runtime_has]
        if provider not in ("auto", *available):
            known = "is not available on this node" if provider in PROVIDERS else "is unknown"
            raise ConfigError(
                f"provider: {provider!r} {known}; expected one of auto, {', '.join(available)}"
            )
        if provider != "auto":
            session = self._load(provider)
            if session is None:
                raise ConfigError(
                    f"provider: {provider!r} is in this node's ONNX Runtime but could not be "
                    f"started (driver or device missing); available: auto, {', '.join(available)}"
                )
            return provider, session
        for candidate in (name for name in AUTO_ORDER if name in available):
            session = self._load(candidate)
            if session is not None:
                return candidate, session
        raise ConfigError(f"provider: none of {', '.join(AUTO_ORDER)} could be started")

    def _load(self, provider: str) -> ort.InferenceSession | None:
        """Load the graph on a provider; None where the provider itself can't be started."""
        wanted = _RUNTIME_NAMES[provider]
        # The CPU always stands by for single ops that another provider lacks.
        names = [wanted] if provider == "cpu" else [wanted, _RUNTIME_NAMES["cpu"]]
        path = with_mapped_weights(self.path) if provider == "cpu" else self.path
        options = _session_options(self._num_threads)
        if path != self.path:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        try:
            session = ort.InferenceSession(path, options, providers=names)
        # ONNX Runtime's exceptions share no base class of their own.
        except Exception as error:
            if provider != "cpu":
                return None
            raise ModelIntegrityError(f"{self.path} can't be loaded: {error}") from error
        # Without a device ONNX Runtime falls back to the CPU with no more than a log line.
        return session if session.get_providers()[0] == wanted else None

    def _check(self, batch: NDArray[Any]) -> None:
        rest = self.input_shape[1:]
        fits = batch.ndim == len(self.input_shape) and all(
            want in (None, got) for want, got in zip(rest, batch.shape[1:], strict=True)
        )
        if not fits or batch.dtype != self.input_dtype:
            expected = ("N", *("any" if size is None else size for size in rest))
            raise ValueError(
                f"{self.path.name}: expected {expected} {np.dtype(self.input_dtype)}, "
                f"got {batch.shape} {batch.dtype}"
            )

    def _infer(self, batch: NDArray[Any]) -> list[NDArray[Any]]:
        outputs = self._session.run(None, {self.input_name: batch})
        return [np.asarray(output) for output in outputs]

    def _infer_padded(self, rows: NDArray[Any]) -> list[NDArray[Any]]:
        """Run rows, filled up with zeros where the graph's batch is fixed and larger."""
        missing = max(0, (self.input_shape[0] or 0) - len(rows))
        padding = np.zeros((missing, *rows.shape[1:]), rows.dtype)
        return self._infer(np.concatenate([rows, padding]) if missing else rows)


def _session_options(num_threads: int) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = _LOG_ERRORS_ONLY
    # A waiting thread that spins takes the core from the other models of the machine.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    # The figures are in the module's docstring. A memory pattern is planned per input shape, so
    # it holds a block for every batch size that was ever seen.
    options.enable_cpu_mem_arena = True
    options.enable_mem_pattern = False
    return options


def _shape(node: ort.NodeArg) -> tuple[int | None, ...]:
    return tuple(size if isinstance(size, int) else None for size in node.shape)
