"""Set up the virtual environment: locked, verified by hash, repeated only when a lock changed.

Runs with nothing but the system's python3, and must even start on one that is too old, to say so;
hence no syntax newer than Python 3.6 and no imports from the project.

    python3 scripts/bootstrap.py         # what serving needs
    python3 scripts/bootstrap.py --dev   # and what the tests, checks and benchmarks need
    python3 scripts/bootstrap.py --peers # services to compare with, in an environment of their own
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

MIN_PYTHON = (3, 11)
PROGRAMS = {"exiftool": ("libimage-exiftool-perl", "the exif node")}
DEV_PROGRAMS = {
    "chromium": ("chromium", "the test that plays a stream in a browser"),
    "mosquitto": ("mosquitto", "the tests of events over MQTT"),
    "postgres": ("postgresql", "the tests of jobs in PostgreSQL"),
}
"""Program to the Debian package that brings it, and what does not work without it. Tests start
servers of their own; the services that come with a package are neither used nor changed."""

OFF_PATH = ("usr/sbin", "usr/lib/postgresql/*/bin")
"""Where Debian keeps servers, which are not in every user's PATH."""

NEEDED_BYTES = 3 * 2**30  # the environment takes about 2 GB, pip's downloads come beside it

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PEERS_VENV = ROOT / ".venv-peers"
PEERS_LOCK = ROOT / "requirements-peers.lock"


def main():
    """Create or update the environment, or explain what stands in the way."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--dev", action="store_true", help="also what tests and checks need")
    parser.add_argument("--peers", action="store_true", help="only services to compare with")
    arguments = parser.parse_args()
    if arguments.peers:
        set_up_peers()
    else:
        set_up(arguments.dev)


def set_up(dev):
    """Create or update the environment of the project."""
    lock = ROOT / ("requirements-dev.lock" if dev else "requirements.lock")
    wanted = _digest([lock, ROOT / "pyproject.toml"])
    stamp = VENV / ("ready-dev" if dev else "ready")
    if _read(stamp) == wanted or (not dev and _read(VENV / "ready-dev") == _dev_digest()):
        return
    install_lock(VENV, lock)
    say("Installing cl-ml-serve")
    run_pip(VENV, ["install", "--quiet", "--no-deps", "--no-build-isolation", "-e", str(ROOT)])
    install_programs({**PROGRAMS, **DEV_PROGRAMS} if dev else PROGRAMS)
    stamp.write_text(wanted)


def set_up_peers():
    """Create or update the environment of the services that benchmarks compare with."""
    wanted = _digest([PEERS_LOCK])
    stamp = PEERS_VENV / "ready"
    if _read(stamp) != wanted:
        install_lock(PEERS_VENV, PEERS_LOCK)
        stamp.write_text(wanted)


def install_lock(venv, lock):
    """Install what a lock file names into an environment, which is created if it is missing."""
    python = find_python()
    check_disk(ROOT)
    if not _has_pip(venv):
        say("Creating the virtual environment in {}".format(venv.name))
        create_venv(python, venv)
    say("Installing the locked packages (a few hundred MB to fetch the first time)")
    run_pip(venv, ["install", "--require-hashes", "-r", str(lock)])


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


def create_venv(python, venv):
    """Create an environment; on Debian, install the package that ``venv`` needs first."""
    command = [python, "-m", "venv", "--clear", str(venv)]
    if _runs(command) and _has_pip(venv):
        return
    package = "python3-venv" if python == sys.executable else Path(python).name + "-venv"
    say("This python3 lacks the venv module; installing the system package " + package)
    root = _root()
    if root is None and shutil.which("sudo"):
        root = ["sudo"]  # asks for the password: nothing works without this package
    _apt_install(root, [package])
    if not (_runs(command) and _has_pip(venv)):
        fail(
            "The virtual environment could not be created.",
            "Install the system package {}, then run the same command again.".format(package),
        )


def install_programs(programs):
    """Install the system's packages of missing programs, or say how; all else works without."""
    missing = {name: programs[name] for name in programs if not _is_installed(name)}
    packages = sorted(package for package, _ in missing.values())
    if packages:
        say("Installing the system packages " + ", ".join(packages))
        _apt_install(_root(), packages)
    for name, (package, purpose) in sorted(missing.items()):
        if not _is_installed(name):
            say("Not installed: {}, for {}. Get it with:".format(name, purpose))
            say("    sudo apt install {}".format(package))


def run_pip(venv, arguments):
    """Run pip inside an environment; exit with a message if it fails."""
    command = [str(venv / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]
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


def _root():
    """Return what a command of root begins with, None where that would ask for a password."""
    if os.geteuid() == 0:
        return []
    return ["sudo", "-n"] if shutil.which("sudo") and _runs(["sudo", "-n", "true"]) else None


def _apt_install(root, packages):
    """Try to install packages of Debian; whoever calls looks whether it worked."""
    apt = shutil.which("apt-get")
    if apt is None or root is None:
        return
    quiet = ["env", "DEBIAN_FRONTEND=noninteractive", apt, "-qq", "-o=Dpkg::Use-Pty=0"]
    _runs([*root, *quiet, "update"])
    _runs([*root, *quiet, "install", "-y", "--no-install-recommends", *packages])


def _is_installed(program):
    folders = [str(folder) for pattern in OFF_PATH for folder in Path("/").glob(pattern)]
    return shutil.which(program, path=os.pathsep.join([os.environ["PATH"], *folders])) is not None


def _runs(command):
    return subprocess.call(command, stdout=subprocess.DEVNULL) == 0


def _has_pip(venv):
    python = venv / "bin" / "python"
    return _runs([str(python), "-c", "import pip"]) if python.exists() else False


def _read(path):
    return path.read_text() if path.exists() else None


def _digest(paths):
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()


def _dev_digest():
    return _digest([ROOT / "requirements-dev.lock", ROOT / "pyproject.toml"])


if __name__ == "__main__":
    main()
