"""The real HTTP app over a small graph, served by uvicorn, and ways to run the command on it."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result
from starlette.types import ASGIApp, Receive, Scope, Send

from deployments.runtime.capability import NodeSettings
from deployments.runtime.models import ModelStore, load_catalogue
from serve_app.cli.analyze import analyze
from serve_app.cli.analyze.service import Patience
from serve_app.config import AppArgs, Limits
from serve_app.graph import Graph
from serve_app.host import Host
from serve_app.http.guard import RequestGuard
from serve_app.http.ingress import build_http_app
from serve_app.pipeline import Pipeline
from serve_app.settings import DEFAULT_CATALOGUE
from serve_app.stores import open_stores
from tests.serve_app.cli.analyze.nodes import NODES
from tests.serve_app.cli.local_server import LocalServer

JPEG = b"\xff\xd8\xff"
"""Enough for a media type."""

QUICK = Patience(first_wait_s=0.001, longest_wait_s=0.01, give_up_after_s=30.0, tries=3)
"""Gives up after half a minute, which no test should reach."""

LIMITS = Limits(max_upload_bytes=200_000, retry_after_s=0)


def make_app(limits: Limits = LIMITS) -> ASGIApp:
    """Build the whole HTTP app over the four nodes, each in a host of its own."""
    spec = {"graph": {name: {"needs": [source]} for name, (_, source) in NODES.items()}}
    args = AppArgs.model_validate(spec)
    graph = Graph(args, {name: capability for name, (capability, _) in NODES.items()})
    settings = NodeSettings(store=ModelStore(load_catalogue(DEFAULT_CATALOGUE)))
    hosts = {name: Host([(graph[name], settings)]) for name in graph}
    app = build_http_app(graph, Pipeline(graph, hosts, limits), open_stores(args), limits)
    app.add_middleware(RequestGuard, limits=limits)
    return app


class LocalService(LocalServer):
    """The app on a port of this machine, with a hand on what happens to uploads.

    Attributes:
        script: what the next uploads meet instead of the app, in order.
        on_upload: is called with each upload's number, from 1, before it is answered.
        uploads: how many there were.
        broken: whether the self-tests fail.

    """

    def __init__(self, limits: Limits = LIMITS) -> None:
        """Choose a port; ``start`` listens on it."""
        super().__init__()
        self.script: deque[ASGIApp] = deque()
        self.reset()
        self._app = make_app(limits)

    def reset(self) -> None:
        """Forget what was, and what was to come."""
        self.script.clear()
        self.on_upload: Callable[[int], None] = lambda _number: None
        self.uploads = 0
        self.broken = False

    async def _handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        app = self._app
        if headers.get(b"content-type", b"").startswith(b"multipart/"):
            self.uploads += 1
            await asyncio.to_thread(self.on_upload, self.uploads)
            if self.script:
                app = self.script.popleft()
        if self.broken and scope["path"] == "/readyz":
            app = answering(503)
        await app(scope, receive, send)


def answering(status: int, body: bytes = b"busy", **headers: str) -> ASGIApp:
    """Make an app that always answers the same, as a proxy might."""
    fields = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        del scope, receive
        await send({"type": "http.response.start", "status": status, "headers": fields})
        await send({"type": "http.response.body", "body": body})

    return app


async def hanging_up(scope: Scope, receive: Receive, send: Send) -> None:
    """Break off within the answer, as a process that dies does."""
    del scope, receive
    fields = [(b"content-length", b"100")]
    await send({"type": "http.response.start", "status": 200, "headers": fields})


def run(service: LocalService, *arguments: object, outputs: str = "size") -> Result:
    """Run the command in this process."""
    options = ["--url", service.url, "--outputs", outputs]
    return CliRunner().invoke(analyze, [str(argument) for argument in (*options, *arguments)])


def read(out: Path) -> dict[str, dict[str, Any]]:
    """Read results by file name; fails if a path is there twice or a line is no JSON."""
    lines = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    by_name = {Path(line["path"]).name: line for line in lines}
    assert len(by_name) == len(lines)
    return by_name


@contextmanager
def started(
    service: LocalService,
    *arguments: object,
    before: Callable[[], None] | None = None,
) -> Iterator[subprocess.Popen[str]]:
    """Run the command in a process of its own, which is killed at the end of the block.

    ``before`` is called in that process before the command.
    """
    code = "from serve_app.cli.analyze import analyze; analyze()"
    options = ["--url", service.url, "--outputs", "size", "--concurrency", "1"]
    command = [sys.executable, "-c", code, *options, *map(str, arguments)]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=Path(__file__).parents[4],
        preexec_fn=before,  # noqa: PLW1509 - only a system call, no lock is taken
        env={**os.environ, "COLUMNS": "200"},
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
