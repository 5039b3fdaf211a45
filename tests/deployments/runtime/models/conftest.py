"""A store on a temporary cache, and a file server on this machine that fails on command."""

import hashlib
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployments.runtime.models import ModelStore, load_catalogue

Entry = dict[str, Any]


class FileServer:
    """Serves ``files``; ``faults`` of a path are used up one per request.

    A fault is a status to answer with, or minus the number of bytes after which to hang up.
    """

    def __init__(self) -> None:
        """Take a free port; nothing is answered before ``start``."""
        self.files: dict[str, bytes] = {}
        self.faults: dict[str, list[int]] = {}
        self.requests: list[tuple[str, str | None]] = []
        """(path, Range header) of each request, in order."""
        self.etags: dict[str, str] = {}
        """What to call a file's version, its hash unless it stands here."""
        handler = type("Handler", (_Handler,), {"files": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.01,), daemon=True
        )

    def start(self) -> None:
        """Answer requests, in a thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop answering and free the port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def url(self, path: str) -> str:
        """Return the URL of one of ``files``."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/{path}"


class _Handler(BaseHTTPRequestHandler):
    files: FileServer

    def do_GET(self) -> None:
        path = self.path.lstrip("/")
        asked = self.headers.get("Range")
        self.files.requests.append((path, asked))
        queued = self.files.faults.get(path)
        fault = queued.pop(0) if queued else 0
        content = self.files.files.get(path)
        if fault > 0 or content is None:
            self.send_response(fault or 404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        etag = self.files.etags.get(path, f'"{hashlib.sha256(content).hexdigest()[:16]}"')
        start = 0
        if asked and self.headers.get("If-Range") == etag:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                self.send_response(416)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        self.send_header("ETag", etag)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start:] if not fault else content[start : start - fault])

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        """Keep the test output clean."""


@pytest.fixture
def server() -> Iterator[FileServer]:
    """A file server on this machine."""
    files = FileServer()
    files.start()
    yield files
    files.stop()


@pytest.fixture
def make_entry() -> Callable[..., Entry]:
    """Build the YAML of one entry for a file with the given content."""

    def make(content: bytes, *sources: dict[str, Any], **more: object) -> Entry:
        return {
            "title": "A file",
            "licence": {"id": "CC0-1.0", "commercial_use": True, "url": "https://example.org"},
            "sources": list(sources),
            "sha256": hashlib.sha256(content).hexdigest(),
            "size_bytes": len(content),
            **more,
        }

    return make


@pytest.fixture
def make_store(tmp_path: Path) -> Callable[..., ModelStore]:
    """Build a store of the given entries on a temporary cache."""

    def make(
        entries: dict[str, Entry], *, cache: str = "cache", offline: bool = False
    ) -> ModelStore:
        path = tmp_path / "catalogue.yaml"
        path.write_text(yaml.safe_dump({"entries": entries}, sort_keys=False))
        return ModelStore(load_catalogue(path), tmp_path / cache, offline=offline, backoff_s=0.01)

    return make


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail the test at the first socket or child process."""

    def refuse(*_: object, **__: object) -> None:
        pytest.fail("the network was touched")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("socket.getaddrinfo", refuse)
    monkeypatch.setattr("subprocess.Popen.__init__", refuse)
