"""Run the locked packages and the face models on an emulated Raspberry Pi 4, and compare.

    python -m scripts.smoke_aarch64     # or `make test-aarch64`

QEMU emulates the instructions of a Cortex-A72 for one program: Debian's arm64 Python, with every
package of requirements.lock as its aarch64 wheel. It imports each module of the project and embeds
the faces of a photo, as this machine does; both must find the same. Needs Debian or Ubuntu, whose
packages it unpacks into a folder: nothing is installed, and nobody needs to be root. About 450 MB
are fetched the first time, 1.5 GB of disk are kept for the next.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from deployments.runtime.models import default_cache_folder
from scripts.check_aarch64 import PLATFORMS, PYTHON_VERSION, ROOT

LOCK = ROOT / "requirements.lock"
PROGRAM = ROOT / "scripts" / "faces_here.py"

ARM_PACKAGES = (f"python{PYTHON_VERSION}", "libstdc++6")
EMULATOR = "qemu-user-static"

CPU_INFO = """processor\t: 0
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm crc32 cpuid
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd08
CPU revision\t: 3

"""
"""/proc/cpuinfo of a Raspberry Pi 4's core. QEMU 7 shows the host's, at which ONNX Runtime, which
looks for the kind of Arm in it, crashes."""

MAX_BOX_DIFFERENCE = 1e-4
"""Of normalised coordinates: a hundredth of a pixel in a small photo. 1e-6 was measured."""
MIN_COSINE = 0.9999
"""Of embeddings: kernels differ between processors, by 1e-6 here."""
TIMEOUT_S = 600


def main() -> None:
    """Fetch what is needed, run both, compare; exits with 1 when they differ."""
    console = Console()
    folder = default_cache_folder().parent / "aarch64"
    with console.status("Fetching") as status:
        fetch(folder, lambda step: status.update(f"{step} …"))
        status.update("Running here …")
        here = run([sys.executable], {})
        status.update("Running on the emulated Raspberry Pi 4 …")
        began_s = time.monotonic()
        there = run(*emulated(folder))
    taken_s = time.monotonic() - began_s
    console.print(
        f"{there['machine']}: {there['modules']} modules imported, {len(there['faces'])} face(s) "
        f"found, in {taken_s:.0f} s"
    )
    differences = compare(here["faces"], there["faces"])
    for difference in differences:
        console.print(f"[bold red]differs[/]: {difference}")
    if not differences:
        console.print(f"the same as on {here['machine']}")
    sys.exit(bool(differences))


def fetch(folder: Path, progress: Any) -> None:  # noqa: ANN401 - a function that is told each step
    """Fetch the emulator, the Arm Python and the wheels, unless they are there."""
    wanted = hashlib.sha256(LOCK.read_bytes() + Path(__file__).read_bytes()).hexdigest()
    stamp = folder / "ready"
    if stamp.exists() and stamp.read_text(encoding="ascii") == wanted:
        return
    shutil.rmtree(folder, ignore_errors=True)
    progress("Fetching an Arm Python and an emulator")
    unpack(debian_packages(folder / "arm64", ARM_PACKAGES, "arm64"), folder / "system")
    unpack(debian_packages(folder / "emulator", (EMULATOR,), None), folder / "system")
    (folder / "system" / "proc").mkdir()
    (folder / "system" / "proc" / "cpuinfo").write_text(CPU_INFO, encoding="ascii")
    progress("Fetching the aarch64 wheels of requirements.lock")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes"]
    install += ["--only-binary=:all:", f"--python-version={PYTHON_VERSION}"]
    install += [f"--platform={platform}" for platform in PLATFORMS]
    check([*install, f"--target={folder / 'packages'}", "-r", str(LOCK)])
    stamp.write_text(wanted, encoding="ascii")


def debian_packages(folder: Path, names: tuple[str, ...], arch: str | None) -> list[Path]:
    """Download packages, for another processor with all that they depend on, without root."""
    (folder / "lists" / "partial").mkdir(parents=True)
    (folder / "archives" / "partial").mkdir(parents=True)
    if arch is None:  # the system's own lists; needs nothing else, being static
        check(["apt-get", "download", *names], cwd=folder / "archives")
        return list((folder / "archives").glob("*.deb"))
    (folder / "status").touch()  # nothing is installed
    options = [f"APT::Architecture={arch}", f"APT::Architectures::={arch}", "Debug::NoLocking=1"]
    options += [f"Dir::State={folder}", f"Dir::State::lists={folder / 'lists'}"]
    options += [f"Dir::State::status={folder / 'status'}", f"Dir::Cache={folder}"]
    apt = ["apt-get", "--quiet=2", *(f"--option={option}" for option in options)]
    check([*apt, "update"])
    check([*apt, "--yes", "--no-install-recommends", "--download-only", "install", *names])
    return list((folder / "archives").glob("*.deb"))


def unpack(packages: list[Path], system: Path) -> None:
    """Unpack Debian packages over each other."""
    for package in packages:
        check(["dpkg-deb", "--extract", str(package), str(system)])


def emulated(folder: Path) -> tuple[list[str], dict[str, str]]:
    """Return the command of the emulated Python, and what it needs in its environment."""
    system = folder / "system"
    command = [str(system / "usr" / "bin" / "qemu-aarch64-static"), "-L", str(system)]
    python = str(system / "usr" / "bin" / f"python{PYTHON_VERSION}")
    packages = f"{folder / 'packages'}{os.pathsep}{ROOT}"
    return [*command, python], {"QEMU_CPU": "cortex-a72", "PYTHONPATH": packages}


def run(python: list[str], environment: dict[str, str]) -> dict[str, Any]:
    """Run the program on one of the machines; return what it prints."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return json.loads(check([*python, str(PROGRAM)], env=environment).splitlines()[-1])


def compare(here: list[dict[str, Any]], there: list[dict[str, Any]]) -> list[str]:
    """Say how the faces of two machines differ; nothing when they are the same."""
    if len(here) != len(there):
        return [f"{len(here)} faces here, {len(there)} there"]
    found: list[str] = []
    for number, (one, other) in enumerate(zip(here, there, strict=True)):
        moved = max(abs(one["box"][side] - other["box"][side]) for side in one["box"])
        if moved > MAX_BOX_DIFFERENCE:
            found.append(f"box {number} by {moved:.2g}; expected at most {MAX_BOX_DIFFERENCE:g}")
        vectors = np.array([one["embedding"], other["embedding"]])
        cosine = float(np.prod([vectors[0] @ vectors[1], *1 / np.linalg.norm(vectors, axis=1)]))
        if not cosine >= MIN_COSINE:
            found.append(f"embedding {number}: cosine {cosine:.6f}; expected {MIN_COSINE:g}")
    return found


def check(command: list[str], **options: Any) -> str:  # noqa: ANN401 - those of subprocess.run
    """Run a command and return what it prints; exits with what it said when it fails."""
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False, **options
    )
    if done.returncode != 0:
        sys.exit(f"{command[0]} failed:\n{(done.stderr or done.stdout).strip()[-2000:]}")
    return done.stdout


if __name__ == "__main__":
    main()
