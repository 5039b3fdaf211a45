"""Set up the virtual environment: locked, verified by hash, repeated only when a lock changed.

Runs with nothing but the system's python3, and must even start on one that is too old, to say so;
hence no syntax newer than Python 3.6 and no imports from the project.

    python3 scripts/bootstrap.py         # what serving needs
    python3 scripts/bootstrap.py --dev   # and what the tests, checks and benchmarks need
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

MIN_PYTHON = (3, 11)
NEEDED_BYTES = 2 * 2**30  # the environment takes about 1 GB, pip's downloads come beside it

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"


def main():
    """Create or update the environment, or explain what stands in the way."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--dev", action="store_true", help="also what tests and checks need")
    dev = parser.parse_args().dev
    lock = ROOT / ("requirements-dev.lock" if dev else "requirements.lock")
    wanted = _digest([lock, ROOT / "pyproject.toml"])
    stamp = VENV / ("ready-dev" if dev else "ready")
    if _read(stamp) == wanted or (not dev and _read(VENV / "ready-dev") == _dev_digest()):
        return
    python = find_python()
    check_disk(ROOT)
    if not (VENV / "bin" / "python").exists() or not _has_pip():
        say("Creating the virtual environment in {}".format(VENV.name))
        create_venv(python)
    say("Installing the locked packages (a few hundred MB to fetch the first time)")
    run_pip(["install", "--require-hashes", "-r", str(lock)])
    say("Installing cl-ml-serve")
    run_pip(["install", "--quiet", "--no-deps", "--no-build-isolation", "-e", str(ROOT)])
    stamp.write_text(wanted)


def find_python():
    """Return a suitable interpreter, this one if it is new enough; exit if there is none."""
    if sys.version_info >= MIN_PYTHON:
        return sys.executable
    for minor in range(14, MIN_PYTHON[1] - 1, -1):
        found = shutil.which("python3.{}".format(minor))
        if found:
            return found
    fail(
        "Python {}.{} or newer is needed; {} is {}.".format(
            MIN_PYTHON[0], MIN_PYTHON[1], sys.executable, sys.version.split()[0]
        ),
        "Debian 12 and Raspberry Pi OS 12 (bookworm) or newer bring one: upgrade, or install",
        "python3.11 beside it, and run the same command again.",
    )
    return None


def check_disk(folder):
    """Exit with a message if the disk can't hold the environment."""
    free = shutil.disk_usage(str(folder)).free
    if free < NEEDED_BYTES:
        fail(
            "The disk with {} is too full: {:.1f} GB are free, {:.1f} GB are needed.".format(
                folder, free / 1e9, NEEDED_BYTES / 1e9
            ),
            "Free some space, then run the same command again.",
        )


def create_venv(python):
    """Create the environment; on Debian, install the package that ``venv`` needs first."""
    command = [python, "-m", "venv", "--clear", str(VENV)]
    if _runs(command) and _has_pip():
        return
    say("This python3 lacks the venv module; installing the system package python3-venv")
    apt = shutil.which("apt-get")
    root = [] if os.geteuid() == 0 else [shutil.which("sudo") or ""]
    package = "python3-venv" if python == sys.executable else Path(python).name + "-venv"
    if apt and "" not in root:
        _runs([*root, apt, "update", "-qq"])
        _runs([*root, apt, "install", "-y", "-qq", package])
    if not (_runs(command) and _has_pip()):
        fail(
            "The virtual environment could not be created.",
            "Install the system package {}, then run the same command again.".format(package),
        )


def run_pip(arguments):
    """Run pip inside the environment; exit with a message if it fails."""
    command = [str(VENV / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]
    if subprocess.call(command + arguments) != 0:
        fail(
            "pip could not install the packages; its own message stands above.",
            "If the network is down, run the same command again when it is back:",
            "what has been fetched already is not fetched again.",
        )


def say(message):
    """Tell what happens now."""
    sys.stdout.write("==> {}\n".format(message))
    sys.stdout.flush()


def fail(*lines):
    """Tell what is wrong and what to do, then exit."""
    sys.stderr.write("\n".join(lines) + "\n")
    sys.exit(1)


def _runs(command):
    return subprocess.call(command) == 0


def _has_pip():
    return _runs([str(VENV / "bin" / "python"), "-c", "import pip"]) if VENV.exists() else False


def _read(path):
    return path.read_text() if path.exists() else None


def _digest(paths):
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()


def _dev_digest():
    return _digest([ROOT / "requirements-dev.lock", ROOT / "pyproject.toml"])


if __name__ == "__main__":
    main()
