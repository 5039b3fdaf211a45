"""The routes of jobs: submit, watch, fetch; those of the original system, and what it lacked.

Shapes and words of submissions, of ``GET /jobs/{id}``, of its files and of the ``admin`` routes
are the original job protocol's, so that its clients work unchanged. They are not below ``/v1``.
"""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from deployments.runtime.errors import (
    ClServeError,
    EmptyInputError,
    InvalidParameterError,
    NodeUnavailableError,
    UnknownOutputError,
)
from deployments.runtime.file_store import FileStore
from deployments.runtime.media_type import mime_of_name
from deployments.runtime.types import Media, Upload
from serve_app.config import Limits
from serve_app.graph import Graph
from serve_app.http.encoding import EVENT_STREAM
from serve_app.http.events import KEEPALIVE_S
from serve_app.http.outputs import MEDIA_TYPES
from serve_app.http.problems import PROBLEM_JSON, problem_body
from serve_app.http.stored_file import stored_file_response
from serve_app.http.streamed_form import ReceivedFile, receive
from serve_app.http.uploads import check_texts
from serve_app.jobs.folders import key_of
from serve_app.jobs.job import ANALYZE, INPUT, Job, JobFilter, JobRequest, JobStats, JobStatus
from serve_app.jobs.remote_runner import RemoteRunner
from serve_app.jobs.shown import shown
from serve_app.jobs.tasks import Submission, parse_submission
from serve_app.roots import require

BATCH = "batch"
MAX_LISTED = 500
DAY_S = 24 * 3600.0
BYTES = "application/octet-stream"

_FIELD = {"type": "string"}
_BINARY = {"type": "string", "format": "binary"}
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    "4XX": {"description": "The request is wrong.", "content": {PROBLEM_JSON: {}}},
    "5XX": {"description": "Try again, or see why.", "content": {PROBLEM_JSON: {}}},
}


@dataclass(frozen=True, slots=True)
class JobPlaces:
    """Where this process keeps files of jobs: the store, and a folder for what is arriving."""

    store: FileStore
    incoming: Path


class JobRoutes:
    """``/jobs``, and the routes beside it that clients of the original system call."""

    def __init__(
        self, graph: Graph, runner: RemoteRunner, places: JobPlaces, limits: Limits
    ) -> None:
        """Make the routes; ``router`` holds them."""
        self._graph = graph
        self._runner = runner
        self._places = places
        self._limits = limits
        self.router = APIRouter()
        add = self.router.add_api_route
        for path, submit, summary in (
            (f"/jobs/{BATCH}", self.submit_batch, "Submit a job for each of many files."),
            ("/jobs/{task}", self.submit, "Submit a job: a node of the graph, or `analyze`."),
        ):
            add(
                path,
                submit,
                methods=["POST"],
                summary=summary,
                responses=_PROBLEMS,
                openapi_extra=_body(batch=path.endswith(BATCH)),
            )
        add("/jobs", self.find, summary="List jobs, newest first.", responses=_PROBLEMS)
        add("/jobs/{job_id}", self.get, summary="How a job stands.", responses=_PROBLEMS)
        add(
            "/jobs/{job_id}",
            self.remove,
            methods=["DELETE"],
            status_code=204,
            response_class=Response,
            summary="Forget a job, end it if it has not ended, and remove its files.",
            responses=_PROBLEMS,
        )
        for name, change, summary in (
            ("cancel", self.cancel, "End a job that waits or runs."),
            ("retry", self.retry, "Try a failed job again."),
        ):
            add(
                f"/jobs/{{job_id}}/{name}",
                change,
                methods=["POST"],
                summary=summary,
                responses=_PROBLEMS,
            )
        add(
            "/jobs/{job_id}/events",
            self.events,
            response_class=StreamingResponse,
            summary="How a job stands, and each change, until it has ended, as server-sent events.",
            responses=_PROBLEMS | {200: {"content": {EVENT_STREAM: {}}}},
        )
        add("/jobs/{job_id}/files", self.files, summary="The files of a job.", responses=_PROBLEMS)
        for method in ("GET", "HEAD"):
            add(
                "/jobs/{job_id}/files/{path:path}",
                self.read,
                methods=[method],
                operation_id="read_job_file",
                include_in_schema=method == "GET",
                response_class=Response,
                summary="A file of a job, whole or in part (range requests).",
                responses=_PROBLEMS,
            )
        add("/", self.service, summary="Name, version and health.")
        add("/capabilities", self.capabilities, summary="Tasks, and the places free for each.")
        add("/admin/jobs/storage/size", self.storage_size, summary="What jobs take of the disk.")
        add(
            "/admin/jobs/cleanup",
            self.clean_up,
            methods=["DELETE"],
            summary="Remove jobs that ended so many days ago.",
        )

    async def submit(
        self,
        task: str,
        request: Request,
        idempotency_key: Annotated[str | None, Header(max_length=255)] = None,
    ) -> dict[str, Any]:
        """Take one job. The body is streamed to disk."""
        self._require_task(task)
        async with self._received(request) as (fields, files):
            submission = parse_submission(self._graph, task, fields)
            if len(files) > 1:
                raise InvalidParameterError(
                    f"expected one file, got {len(files)}; /jobs/{BATCH} takes many",
                )
            wanted = self._job_request(task, submission, idempotency_key)
            job = await self._submit(wanted, files[0] if files else None)
        return _receipt(job)

    async def submit_batch(
        self,
        request: Request,
        idempotency_key: Annotated[str | None, Header(max_length=200)] = None,
    ) -> dict[str, Any]:
        """Take a job for each file; each succeeds or fails on its own."""
        async with self._received(request) as (fields, files):
            tasks = [value for name, value in fields if name == "task"]
            if len(tasks) != 1:
                raise InvalidParameterError(
                    "task: expected one, a node of the graph or `analyze`, "
                    f"got {', '.join(tasks) or 'none'}",
                )
            (task,) = tasks
            self._require_task(task)
            rest = [(name, value) for name, value in fields if name != "task"]
            submission = parse_submission(self._graph, task, rest)
            if not files:
                raise EmptyInputError("a batch needs files, for example: curl -F files=@a.jpg")
            batch_id = str(uuid.uuid4())
            receipts: list[dict[str, Any]] = []
            for number, file in enumerate(files):
                key = None if idempotency_key is None else f"{idempotency_key}/{number}"
                wanted = replace(self._job_request(task, submission, key), batch_id=batch_id)
                job = await self._submit(wanted, file)
                receipts.append(_receipt(job) | {"filename": file.filename})
                batch_id = job.request.batch_id or batch_id
        return {"batch_id": batch_id, "jobs": receipts}

    async def find(  # noqa: PLR0913 - the query
        self,
        *,
        status: JobStatus | None = None,
        task: str | None = None,
        batch_id: str | None = None,
        dead_letter: bool | None = None,
        limit: Annotated[int, Query(ge=1, le=MAX_LISTED)] = 50,
        offset: Annotated[int, Query(ge=0)] = 0,
    ) -> dict[str, Any]:
        """List jobs, newest first; ``total`` counts those that match."""
        wanted = JobFilter(status, task, batch_id, dead_letter, limit, offset)
        page = await self._runner.again("find", wanted)
        jobs = [shown(job) for job in page.jobs]
        return {"jobs": jobs, "total": page.total, "limit": limit, "offset": offset}

    async def get(self, job_id: str) -> dict[str, Any]:
        """Tell how a job stands."""
        return shown(await self._runner.again("get", job_id))

    async def remove(self, job_id: str) -> Response:
        """Forget a job."""
        await self._runner.once("remove", job_id)
        return Response(status_code=204)

    async def cancel(self, job_id: str) -> dict[str, Any]:
        """End a job; one that has ended stays as it is."""
        return shown(await self._runner.once("cancel", job_id))

    async def retry(self, job_id: str) -> dict[str, Any]:
        """Try a failed job again."""
        return shown(await self._runner.once("retry", job_id))

    async def events(self, job_id: str, request: Request) -> StreamingResponse:
        """Stream how a job stands; each event is the whole of it."""
        await self._runner.again("get", job_id)  # an unknown one is a 404, not an event
        request_id = getattr(request.state, "request_id", "")
        return StreamingResponse(self._events(job_id, request_id), media_type=EVENT_STREAM)

    async def files(self, job_id: str) -> dict[str, Any]:
        """List what was sent, and the result's files once there are any."""
        found = await self._runner.again("files", job_id)
        return {"files": [{"path": path, "size_bytes": size} for path, size in found]}

    async def read(self, job_id: str, path: str, request: Request) -> Response:
        """Answer with a file."""
        job = await self._runner.again("get", job_id)
        name = Path(path).name
        media_type = MEDIA_TYPES.get(Path(path).suffix) or mime_of_name(name) or BYTES
        return await asyncio.to_thread(
            stored_file_response,
            self._places.store,
            key_of(job, path),
            request,
            media_type,
            name,
        )

    async def service(self) -> dict[str, Any]:
        """Say who this is."""
        return {
            "status": "healthy",
            "service": "cl-ml-serve",
            "version": version("cl-ml-serve"),
            "guestMode": "on",  # whoever reaches the port may use it
        }

    async def capabilities(self) -> dict[str, Any]:
        """Tell which tasks there are, and how many jobs more could be in work."""
        stats: JobStats = await self._runner.again("stats")
        return {"num_workers": 1, "capabilities": dict.fromkeys(self._graph, stats.idle)}

    async def storage_size(self) -> dict[str, int]:
        """Tell what the files of jobs take, in bytes."""
        stats: JobStats = await self._runner.again("stats")
        return {"total_size": stats.total_bytes, "job_count": stats.job_count}

    async def clean_up(self, days: Annotated[float, Query(ge=0)] = 7) -> dict[str, int]:
        """Remove jobs that ended so many days ago, with their files."""
        count, freed = await self._runner.again("clean_up", days * DAY_S)
        return {"deleted_count": count, "freed_space": freed}

    def _require_task(self, task: str) -> None:
        """Refuse an unknown task before its file is read. Raises ``UnknownOutputError``."""
        if task != ANALYZE and task not in self._graph:
            raise UnknownOutputError(
                f"unknown task {task!r}; expected {ANALYZE}, or one of "
                f"{', '.join(sorted(self._graph))}",
            )

    @contextlib.asynccontextmanager
    async def _received(
        self,
        request: Request,
    ) -> AsyncIterator[tuple[list[tuple[str, str]], Sequence[ReceivedFile]]]:
        """Receive a body, and give all fields, those of the query too, and the files."""
        async with receive(
            request, self._places.incoming, max_files=self._limits.max_files
        ) as form:
            yield [*request.query_params.multi_items(), *form.fields], form.files

    def _job_request(self, task: str, submission: Submission, key: str | None) -> JobRequest:
        return JobRequest(
            job_id=str(uuid.uuid4()),
            task=task,
            outputs=submission.task.outputs,
            node_params=submission.task.node_params,
            params=submission.task.params,
            input_path=submission.path,
            texts=submission.texts,
            priority=submission.priority,
            webhook=submission.webhook,
            idempotency_key=key,
        )

    async def _submit(self, wanted: JobRequest, file: ReceivedFile | None) -> Job:
        """Put the file into the job's folder, and the job into the queue."""
        media = Media(path=wanted.input_path) if wanted.input_path else None
        if file is not None:
            if media is not None:
                raise InvalidParameterError("path: expected a file or a path, got both")
            if not file.size_bytes:
                raise EmptyInputError(f"{file.filename or 'the file'!r} is empty: 0 bytes")
            media = Media(stored=file.filename)
            wanted = replace(wanted, input_name=file.filename, input_bytes=file.size_bytes)
        check_texts(wanted.texts, self._limits)
        require(self._graph.roots(wanted.outputs), Upload(media, wanted.texts))
        store = self._places.store
        if file is not None:
            key = f"{wanted.job_id}/{INPUT}/{file.filename}"
            await asyncio.to_thread(store.adopt, file.path, key)
        try:
            job: Job = await self._runner.again("submit", wanted)
        except NodeUnavailableError:
            raise  # it may have been taken: then its file is needed, and otherwise it is swept
        except ClServeError:
            await asyncio.to_thread(store.remove, wanted.job_id)
            raise
        if job.job_id != wanted.job_id:  # submitted before, with the same idempotency key
            await asyncio.to_thread(store.remove, wanted.job_id)
        return job

    async def _events(self, job_id: str, request_id: str) -> AsyncIterator[bytes]:
        changes = self._runner.watch(job_id)
        following: asyncio.Future[Job] | None = None
        try:
            while True:
                following = following or asyncio.ensure_future(anext(changes))
                done, _ = await asyncio.wait({following}, timeout=KEEPALIVE_S)
                if not done:
                    yield KEEPALIVE_COMMENT
                    continue
                job, following = following.result(), None
                yield _event("job", shown(job))
        except StopAsyncIteration:
            return
        except ClServeError as error:
            yield _event("problem", problem_body(error, request_id))
        finally:
            if following is not None:
                following.cancel()
                await asyncio.wait({following})
            await changes.aclose()


def _receipt(job: Job) -> dict[str, Any]:
    return {"job_id": job.job_id, "status": job.status, "task_type": job.request.task}


def _event(kind: str, body: dict[str, Any]) -> bytes:
    return format_sse_event(event=kind, data_str=to_json(body).decode())


def _body(*, batch: bool) -> dict[str, Any]:
    """Describe a submission in OpenAPI."""
    properties: dict[str, Any] = {
        "priority": {"type": "string", "default": "5", "description": "0, most urgent, to 10."},
        "webhook": {"type": "string", "description": "URL to call when the job has ended."},
        "text": {"type": "array", "items": _FIELD},
    }
    required: list[str] = []
    if batch:
        properties |= {"task": _FIELD, "files": {"type": "array", "items": _BINARY}}
        required = ["task", "files"]
    else:
        properties |= {"file": _BINARY, "path": _FIELD}
    schema = {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": _FIELD,
        "description": "Parameters of the task are fields too; so are `outputs`, and parameters "
        "as `node.parameter`, of `analyze`.",
    }
    return {"requestBody": {"content": {"multipart/form-data": {"schema": schema}}}}
