"""A small service that speaks the job API, served by uvicorn, with a hand on what goes wrong."""

import asyncio
import itertools
import json
import threading
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

from click.testing import CliRunner, Result
from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from serve_app.cli.jobs import jobs
from tests.serve_app.cli.local_server import LocalServer

NOW_MS = 1_790_000_000_000


def problem(status: int, kind: str, detail: str) -> JSONResponse:
    """Answer as the service does."""
    body = {"type": f"urn:cl-ml-serve:problem:{kind}", "status": status, "detail": detail}
    return JSONResponse(body, status)


def make_job(job_id: str, **fields: Any) -> dict[str, Any]:  # noqa: ANN401 - a job's
    """Describe a queued job, with some fields replaced."""
    times = {"created_at": NOW_MS, "updated_at": NOW_MS, "started_at": None, "completed_at": None}
    return {
        "job_id": job_id,
        "task_type": "hash",
        "status": "queued",
        "progress": 0,
        "params": {},
        "task_output": None,
        "error_message": None,
        "priority": 5,
        **times,
        "error_kind": None,
        "dead_letter": False,
        "attempts": 0,
        "batch_id": None,
        **fields,
    }


COMPLETED = {
    "status": "completed",
    "progress": 100,
    "started_at": NOW_MS,
    "completed_at": NOW_MS + 1500,
    "attempts": 1,
    "task_output": {"media_type": "image/jpeg"},
}
FAILED = {
    "status": "failed",
    "progress": 40,
    "started_at": NOW_MS,
    "completed_at": NOW_MS + 1500,
    "attempts": 4,
    "error_message": "no replica of hash could answer",
    "error_kind": "node-unavailable",
    "dead_letter": True,
}


class JobsService(LocalServer):
    """The service on a port of this machine.

    Attributes:
        jobs: by id.
        files: the results by job id, each by path.
        uploads: what came with each submission: its fields, and the file's name and bytes.
        changes: what becomes of a watched job, step by step; with None nothing more comes.
        silent: is set when nothing more comes.
        script: what the next requests meet instead of the service, in order.
        requests: method and path of all.

    """

    def __init__(self) -> None:
        """Choose a port; ``start`` listens on it."""
        super().__init__()
        self.jobs: dict[str, dict[str, Any]] = {}
        self.files: dict[str, dict[str, bytes]] = {}
        self.uploads: list[dict[str, Any]] = []
        self.changes: deque[dict[str, Any] | None] = deque()
        self.silent = threading.Event()
        self.script: deque[ASGIApp] = deque()
        self.requests: list[str] = []
        self._keys: dict[str, str] = {}
        self._numbers = itertools.count(1)
        self._app = Starlette(
            routes=[
                Route("/jobs", self._list),
                Route("/jobs/{job_id}", self._get, methods=["GET"]),
                Route("/jobs/{job_id}", self._remove, methods=["DELETE"]),
                Route("/jobs/{job_id}", self._submit, methods=["POST"]),
                Route("/jobs/{job_id}/events", self._events),
                Route("/jobs/{job_id}/files", self._files),
                Route("/jobs/{job_id}/files/{path:path}", self._file),
                Route("/jobs/{job_id}/{action}", self._act, methods=["POST"]),
            ],
        )

    async def _handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.requests.append(f"{scope['method']} {scope['path']}")
        app = self.script.popleft() if self.script else self._app
        await app(scope, receive, send)

    async def _submit(self, request: Request) -> Response:
        task = request.path_params["job_id"]
        async with request.form() as form:
            sent: dict[str, Any] = {"task": task}
            for name, value in form.multi_items():
                is_file = isinstance(value, UploadFile)
                sent[name] = (value.filename, await value.read()) if is_file else value
        if task == "nothing":
            return problem(404, "unknown-output", "unknown task 'nothing'")
        self.uploads.append(sent)
        key = request.headers["idempotency-key"]
        job_id = self._keys.setdefault(key, f"job-{next(self._numbers)}")
        self.jobs[job_id] = make_job(job_id, task_type=task, priority=int(sent["priority"]))
        return JSONResponse({"job_id": job_id, "status": "queued", "task_type": task})

    async def _list(self, request: Request) -> Response:
        wanted = dict(request.query_params)
        limit, offset = int(wanted.pop("limit")), int(wanted.pop("offset"))
        names = {"task": "task_type"}
        found = [
            job
            for job in self.jobs.values()
            if all(str(job[names.get(k, k)]).lower() == value for k, value in wanted.items())
        ]
        page = found[offset : offset + limit]
        return JSONResponse({"jobs": page, "total": len(found), "limit": limit, "offset": offset})

    def _find(self, request: Request) -> tuple[str, Response | None]:
        job_id = request.path_params["job_id"]
        if job_id in self.jobs:
            return job_id, None
        return job_id, problem(404, "unknown-job", f"there is no job {job_id!r}")

    async def _get(self, request: Request) -> Response:
        job_id, missing = self._find(request)
        return missing or JSONResponse(self.jobs[job_id])

    async def _remove(self, request: Request) -> Response:
        job_id, missing = self._find(request)
        if missing is None:
            del self.jobs[job_id]
        return missing or Response(status_code=204)

    async def _act(self, request: Request) -> Response:
        job_id, missing = self._find(request)
        if missing is not None:
            return missing
        job = self.jobs[job_id]
        if request.path_params["action"] == "cancel":
            job |= {"status": "failed", "error_kind": "cancelled"}
        elif job["status"] == "failed":
            job |= {"status": "queued", "dead_letter": False}
        else:
            return problem(409, "job-state", f"job {job_id} is {job['status']}")
        return JSONResponse(job)

    async def _events(self, request: Request) -> Response:
        job_id, missing = self._find(request)

        async def events() -> AsyncIterator[str]:
            job = self.jobs[job_id]
            yield ": a comment, to keep the connection\n\n"
            yield f"event: job\ndata: {json.dumps(job)}\n\n"
            while self.changes:
                change = self.changes.popleft()
                if change is None:
                    self.silent.set()
                    await asyncio.sleep(3600)
                    return
                job.update(change)
                yield f"event: job\ndata: {json.dumps(job)}\n\n"

        return missing or StreamingResponse(events(), media_type="text/event-stream")

    async def _files(self, request: Request) -> Response:
        found = self.files.get(request.path_params["job_id"], {})
        listed = [{"path": path, "size_bytes": len(data)} for path, data in found.items()]
        return JSONResponse({"files": listed})

    async def _file(self, request: Request) -> Response:
        data = self.files[request.path_params["job_id"]][request.path_params["path"]]
        wanted = request.headers.get("range")
        if wanted is None:
            return Response(data)
        start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        return Response(data[start:], 206 if start < len(data) else 416)


def answering(status: int, body: bytes = b"busy", **headers: str) -> ASGIApp:
    """Make an app that always answers the same, as a proxy might."""
    return Response(body, status, {name.replace("_", "-"): v for name, v in headers.items()})


async def hanging_up(scope: Scope, receive: Receive, send: Send) -> None:
    """Break off within the answer, as a process that dies does."""
    del scope, receive
    fields = [(b"content-length", b"100")]
    await send({"type": "http.response.start", "status": 200, "headers": fields})


def run(service: JobsService, *arguments: object) -> Result:
    """Run a command of the group in this process."""
    words = [str(argument) for argument in arguments]
    return CliRunner().invoke(jobs, [words[0], "--url", service.url, *words[1:]])
