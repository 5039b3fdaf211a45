"""A large graph as ONNX Runtime computes with it, in a file whose weights processes share.

Loaded from its own file, a graph's weights are copied into the memory of each process, in the order
in which this processor's kernels read them. Here that is done once and saved, and the weights are
mapped from the file: all processes have the same pages, which Linux may drop and read again when
memory is short. Memory that a process has for itself, and time per image, on x86-64 with one
thread: DINOv2 ViT-S/14 123 MB and 105 ms as it is, 18 MB and 105 ms mapped; MobileCLIP-S0's image
tower 109 MB and 47 ms as it is, 18 MB and 45 ms mapped. The file takes twice the graph's size.
"""

import hashlib
import logging
import platform
import shutil
import tempfile
from pathlib import Path

import onnxruntime as ort
from filelock import FileLock

from deployments.runtime.atomic import sync

MIN_BYTES = 16 * 2**20
"""Of a graph that this pays for. The face models have 2 and 5 MB."""

_EXPECTED_FACTOR = 3
"""Of room on the disk over the graph's size: for its weights in both orders, and some more."""

_SETTINGS = {
    "session.optimized_model_external_initializers_file_name": "weights.bin",
    "session.optimized_model_external_initializers_min_size_in_bytes": "1024",
    "session.save_external_prepacked_constant_initializers": "1",
}
_ERRORS_ONLY = 3

logger = logging.getLogger(__name__)


def with_mapped_weights(path: Path) -> Path:
    """Return the prepared form of a graph for this machine's CPU, made when it is not there yet.

    Load it without optimisations: they have been made.

    Args:
        path: An ONNX file; the prepared form is kept in a folder beside it.

    Returns:
        ``path`` itself where the graph is small, is broken, or can't be written beside.

    """
    try:
        size = path.stat().st_size
        if size < MIN_BYTES:
            return path
        folder = path.parent / f"prepared-{_key(path)}"
        ready = folder / path.name
        if not ready.exists():
            with FileLock(path.parent / "prepared.lock"):
                if not ready.exists():
                    _prepare(path, folder)
    except Exception as error:  # noqa: BLE001 - ONNX Runtime's share no base; the graph itself is still there
        logger.warning("the weights of %s are not shared by processes: %s", path.name, error)
        return path
    return ready


def _prepare(path: Path, folder: Path) -> None:
    """Write the prepared form whole, or not at all; remove those for another runtime."""
    for old in path.parent.glob("prepared-*/"):
        shutil.rmtree(old)
    free_bytes = shutil.disk_usage(path.parent).free
    needed_bytes = _EXPECTED_FACTOR * path.stat().st_size
    if free_bytes < needed_bytes:
        raise OSError(
            f"expected {needed_bytes / 1e6:.0f} MB on the disk, {free_bytes / 1e6:.0f} are"
        )
    with tempfile.TemporaryDirectory(dir=path.parent, prefix="prepared-") as name:
        target = Path(name) / folder.name
        target.mkdir()
        options = ort.SessionOptions()
        options.log_severity_level = _ERRORS_ONLY
        options.optimized_model_filepath = str(target / path.name)
        for setting, value in _SETTINGS.items():
            options.add_session_config_entry(setting, value)
        ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        for file in (*target.iterdir(), target):
            sync(file)
        target.rename(folder)
    sync(path.parent)


def _key(path: Path) -> str:
    """Name the graph, the runtime and the processor that a prepared form is for."""
    status = path.stat()
    parts = (status.st_size, status.st_mtime_ns, ort.__version__, platform.machine(), _features())
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _features() -> str:
    """Return what the kernel says of the processor's instructions; empty where it says nothing."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    wanted = ("flags", "Features", "CPU part", "model name")
    return "\n".join(sorted({line for line in lines if line.startswith(wanted)}))
