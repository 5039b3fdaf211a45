"""Check that every locked runtime package installs on a 64-bit Arm machine without a compiler.

A package passes with a wheel for aarch64 Linux or for any platform: pip is asked to resolve each
pinned package for that platform from wheels alone, without installing anything.
"""

import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHON_VERSION = "3.11"
PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64")
ELSEWHERE = re.compile(r"sys_platform == 'win32'|platform_system == 'Windows'|>= '3\.12'")
PINNED = re.compile(r"^(?P<pin>[A-Za-z0-9._-]+==[^ ;\\]+)\s*(?:;\s*(?P<marker>[^\\]*))?")


def main() -> int:
    """Check every pin; print those that fail, and return the exit code."""
    pins = runtime_pins((ROOT / "requirements.lock").read_text(encoding="utf-8"))
    with ThreadPoolExecutor(max_workers=4) as pool:
        results = dict(zip(pins, pool.map(has_wheel, pins), strict=True))
    failed = [pin for pin, ok in results.items() if not ok]
    for pin in failed:
        sys.stderr.write(f"{pin}: no wheel for aarch64 and not pure Python\n")
    sys.stdout.write(f"{len(pins) - len(failed)} of {len(pins)} packages install on aarch64\n")
    return 1 if failed else 0


def runtime_pins(lock: str) -> list[str]:
    """List the pins of a lock file that apply to Linux and the oldest supported Python."""
    found = (PINNED.match(line) for line in lock.splitlines())
    return [
        match["pin"] for match in found if match and not ELSEWHERE.search(match["marker"] or "")
    ]


def has_wheel(pin: str) -> bool:
    """Tell whether pip finds a wheel of exactly this version for aarch64."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--dry-run"]
    with tempfile.TemporaryDirectory() as folder:
        command += ["--only-binary=:all:", f"--python-version={PYTHON_VERSION}"]
        command += ["--ignore-installed", "--target", folder]
        command += [f"--platform={platform}" for platform in PLATFORMS]
        return subprocess.run([*command, pin], capture_output=True, check=False).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
