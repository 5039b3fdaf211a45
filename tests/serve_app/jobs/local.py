"""Jobs in one process: the real routes, runner, queue and table, over the fake graph.

In place of Serve's handles stand objects that call at once, and raise what Ray would.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from ray.exceptions import RayTaskError

from deployments.runtime.errors import ClServeError
from serve_app.config import AppArgs
from serve_app.host import Host
from serve_app.http.guard import RequestGuard
from serve_app.http.ingress import build_http_app, job_routes
from serve_app.jobs.runner import JobRunner
from serve_app.jobs.work import JobWorker
from serve_app.jobs.workers import Worker
from serve_app.pipeline import Pipeline
from serve_app.stores import Stores, open_stores
from tests.serve_app.fake import ARGS, make_graph, make_settings


class LocalHandle:
    """A handle of a runner in this process."""

    def __init__(self, runner: JobRunner, *, stream: bool = False) -> None:
        """Keep the runner."""
        self._runner = runner
        self._stream = stream

    def options(self, *, stream: bool) -> "LocalHandle":
        """Ask for streams."""
        return LocalHandle(self._runner, stream=stream)

    def __getattr__(self, name: str) -> "_Method":
        """Give a method."""
        return _Method(getattr(self._runner, name), stream=self._stream)


class _Method:
    def __init__(self, call: Callable[..., Any], *, stream: bool) -> None:
        self._call = call
        self._stream = stream

    def remote(self, *args: Any) -> Any:  # noqa: ANN401 - as a handle
        kind = _Stream if self._stream else _Response
        return kind(self._call(*args))


class _Response:
    def __init__(self, answer: Any) -> None:  # noqa: ANN401 - a coroutine
        self._answer = answer

    def __await__(self) -> Any:  # noqa: ANN401 - a generator
        try:
            return (yield from self._answer.__await__())
        except ClServeError as error:
            raise RayTaskError("call", "a traceback", error).as_instanceof_cause() from None

    def cancel(self) -> None:
        """Do nothing: the coroutine is cancelled with its caller."""


class _Stream(_Response):
    def __aiter__(self) -> AsyncIterator[Any]:
        return self._items()

    async def _items(self) -> AsyncIterator[Any]:
        try:
            async for item in self._answer:
                yield item
        except ClServeError as error:
            raise RayTaskError("call", "a traceback", error).as_instanceof_cause() from None


@dataclass
class Service:
    """A service in this process."""

    runner: JobRunner
    http: httpx2.AsyncClient
    stores: Stores
    folder: Path

    async def submit(self, task: str = "lengths", body: bytes = b"one three", **fields: Any) -> str:  # noqa: ANN401 - form fields
        """Submit a job; return its id."""
        answer = await self.http.post(f"/jobs/{task}", files={"file": ("a.txt", body)}, data=fields)
        assert answer.status_code == 200, answer.text
        return answer.json()["job_id"]

    def job_folders(self) -> list[Path]:
        """List what has files."""
        return [path for path in (self.folder / "files").iterdir() if path.name[0] != "."]

    async def ended(self, job_id: str) -> dict[str, Any]:
        """Wait until a job has ended; return it."""
        async for _ in self.runner.watch(job_id):
            pass
        return (await self.http.get(f"/jobs/{job_id}")).json()


@asynccontextmanager
async def service(
    folder: Path,
    worker: Worker | None = None,
    events: dict[str, Any] | None = None,
    **jobs: Any,  # noqa: ANN401 - the YAML's ``args.jobs``
) -> AsyncIterator[Service]:
    """Run a service whose jobs are kept below ``folder``; it ends as a replica does."""
    args = AppArgs.model_validate(
        {**ARGS, "jobs": {"folder": str(folder), **jobs}, "events": events or {}},
    )
    assert args.jobs is not None
    graph = make_graph()
    hosts = {name: Host([(graph[name], make_settings())]) for name in graph}
    for host in hosts.values():
        host._files = type(host._files)(store=open_stores(args).files)
    stores = open_stores(args)
    assert stores.files is not None
    pipeline = Pipeline(graph, hosts, args.limits)
    worker = worker or JobWorker(pipeline, stores.files)
    runner = JobRunner(args.jobs, args.events, tuple(graph), worker)
    app = build_http_app(
        graph,
        pipeline,
        stores,
        args.limits,
        job_routes(graph, args, stores, LocalHandle(runner)),  # pyright: ignore[reportArgumentType] - all that is called of it
    )
    app.add_middleware(RequestGuard, limits=args.limits, max_job_bytes=args.jobs.max_upload_bytes)
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    try:
        async with httpx2.AsyncClient(transport=transport, base_url="http://local") as http:
            yield Service(runner, http, stores, folder)
    finally:
        runner._leading.cancel()  # as the death of its process would
        await asyncio.wait({runner._leading})
        runner.__del__()
