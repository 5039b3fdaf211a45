"""Starting and ending a peer: another service on the same models."""

import contextlib
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from benchmarks.errors import BenchmarkError
from benchmarks.layouts import ROOT
from benchmarks.load.cpu import tree_of
from benchmarks.subjects.service import Service
from serve_app.stack.ports import free_ports

_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 10.0
_POLL_S = 0.1


Peer = Literal["plain_fastapi", "tuned_fastapi"]
"""A module of ``benchmarks.peers``."""


@contextmanager
def peer_service(peer: Peer, config: Path) -> Iterator[Service]:
    """Run a peer on a free port while the block runs.

    Raises:
        BenchmarkError: it did not start; the message holds what it printed.

    """
    port = free_ports(1)[0]
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                f"benchmarks.peers.{peer}",
                f"--port={port}",
                f"--config={config}",
            ],
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            if not _listens(process, port):
                output.seek(0)
                raise BenchmarkError(f"the peer {peer} did not start:\n{output.read()}")
            url = f"http://127.0.0.1:{port}/v1/face_embedding"
            yield Service(url, tree_of(process.pid))
        finally:
            process.terminate()
            try:
                process.wait(_STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _listens(process: subprocess.Popen[bytes], port: int) -> bool:
    """Wait until the peer listens, which it does once its models are loaded."""
    deadline_s = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline_s and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
        time.sleep(_POLL_S)
    return False
