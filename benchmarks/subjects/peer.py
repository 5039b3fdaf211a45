"""Starting and ending a peer: another service on the same models."""

import base64
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import psutil

from benchmarks.errors import BenchmarkError
from benchmarks.layouts import ROOT, GraphFile, installed_path
from benchmarks.load.cpu import tree_of
from benchmarks.subjects.service import ROUTE, Encode, Service, raw_body
from benchmarks.workloads.workload import Post
from serve_app.stack.ports import free_ports

PEERS_PYTHON = ROOT / ".venv-peers" / "bin" / "python"
"""Made by ``scripts/bootstrap.py --peers``."""

_START_TIMEOUT_S = 90.0
_STOP_TIMEOUT_S = 5.0
_SHOWN_LINES = 15
_POLL_S = 0.2
_POLL_TIMEOUT_S = 5.0


def as_json(photo: bytes) -> Post:
    """Send a photo as base64 in JSON."""
    body = json.dumps({"image": base64.b64encode(photo).decode()}).encode()
    return Post(ROUTE, body, "application/json")


def as_form(photo: bytes) -> Post:
    """Send a photo as the only file of a form."""
    file = {"images": ("photo.jpg", photo, "image/jpeg")}
    request = httpx2.Request("POST", f"http://service{ROUTE}", files=file)
    return Post(ROUTE, request.read(), request.headers["Content-Type"])


@dataclass(frozen=True, slots=True)
class Peer:
    """A module of ``benchmarks.peers``, and how it takes photos."""

    module: str
    ready_path: str
    """Answers 200 to GET once it can do its work."""

    encode: Encode = raw_body
    own_environment: bool = False
    """It runs in ``.venv-peers``, as some of what it needs conflicts with what Ray needs."""

    our_code: bool = False
    """It computes with this project's code, so it gets the graph's file in place of models."""

    def command(self, config: Path, port: int) -> list[str]:
        """Return what starts it, with the models of a YAML file of the graph."""
        python = str(PEERS_PYTHON) if self.own_environment else sys.executable
        start = [python, "-m", f"benchmarks.peers.{self.module}", f"--port={port}"]
        if self.our_code:
            return [*start, f"--config={config}"]
        store = GraphFile(config).store()
        detector = installed_path(store, "blazeface_full_range")
        embedder = installed_path(store, "mobilefacenet")
        return [*start, f"--detector={detector}", f"--embedder={embedder}"]


PLAIN_FASTAPI = Peer("plain_fastapi", "/openapi.json")
TUNED_FASTAPI = Peer("tuned_fastapi", "/openapi.json", our_code=True)
LITSERVE = Peer("litserve_faces", "/health", as_json, own_environment=True)
BENTOML = Peer("bentoml_faces", "/readyz", as_form, own_environment=True)
RAY_SERVE = Peer("ray_serve", ROUTE)


@contextmanager
def peer_service(peer: Peer, config: Path) -> Iterator[Service]:
    """Run a peer on a free port while the block runs, and end all of its processes.

    Raises:
        BenchmarkError: it did not start; the message holds what it printed.

    """
    if peer.own_environment:
        _make_environment()
    port = free_ports(1)[0]
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            peer.command(config, port),
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for us, who then end it
        )
        try:
            url = f"http://127.0.0.1:{port}"
            if not _is_ready(process, url + peer.ready_path):
                output.seek(0)
                said = "".join(output.readlines()[-_SHOWN_LINES:]) or "it printed nothing"
                raise BenchmarkError(
                    f"{peer.module} is not ready within {_START_TIMEOUT_S:g} s; it says:\n{said}",
                )
            yield Service(url, tree_of(process.pid), encode=peer.encode)
        finally:
            _end(process)


def _make_environment() -> None:
    """Make or update the environment of the peers; quick where it is up to date."""
    command = [sys.executable, str(ROOT / "scripts" / "bootstrap.py"), "--peers"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode != 0:
        text = (done.stdout + done.stderr).decode("utf-8", "replace")
        raise BenchmarkError(f"the environment of the peers could not be made:\n{text.strip()}")


def _is_ready(process: subprocess.Popen[bytes], url: str) -> bool:
    """Wait until the peer says that it is ready."""
    deadline_s = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline_s and process.poll() is None:
        with contextlib.suppress(httpx2.HTTPError):
            if httpx2.get(url, timeout=_POLL_TIMEOUT_S).is_success:
                return True
        time.sleep(_POLL_S)
    return False


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask the process to end, then kill what is left of it and of its descendants."""
    with contextlib.suppress(psutil.NoSuchProcess):
        family = list(tree_of(process.pid)())
        process.terminate()
        _, alive = psutil.wait_procs(family, timeout=_STOP_TIMEOUT_S)
        for one in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
    process.wait()
