"""Taking jobs: the routes that submit one, or one for each of many files.

A body is streamed to disk, its fields are checked, its file goes into the job's folder, and the
runner writes the job down: only then is it answered.
"""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Coroutine, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Header
from starlette.requests import Request

from deployments.runtime.errors import (
    ClServeError,
    EmptyInputError,
    InvalidParameterError,
    NodeUnavailableError,
    UnknownOutputError,
)
from deployments.runtime.file_store import FileStore
from deployments.runtime.types import Media, Upload
from serve_app.config import Limits
from serve_app.graph import Graph
from serve_app.http.problems import PROBLEM_JSON
from serve_app.http.streamed_form import ReceivedFile, receive
from serve_app.http.uploads import check_texts
from serve_app.jobs.job import ANALYZE, INPUT, Job, JobRequest
from serve_app.jobs.remote_runner import RemoteRunner
from serve_app.jobs.tasks import Submission, parse_submission
from serve_app.roots import require

BATCH = "batch"

_FIELD = {"type": "string"}
_BINARY = {"type": "string", "format": "binary"}
PROBLEMS: dict[int | str, dict[str, Any]] = {
    "4XX": {"description": "The request is wrong.", "content": {PROBLEM_JSON: {}}},
    "5XX": {"description": "Try again, or see why.", "content": {PROBLEM_JSON: {}}},
}


@dataclass(frozen=True, slots=True)
class JobPlaces:
    """Where this process keeps files of jobs: the store, and a folder for what is arriving."""

    store: FileStore
    incoming: Path


class SubmissionRoutes:
    """``POST /jobs/{task}`` and ``POST /jobs/batch``."""

    def __init__(
        self,
        graph: Graph,
        runner: RemoteRunner,
        places: JobPlaces,
        limits: Limits,
    ) -> None:
        """Make the routes; ``router`` holds them."""
        self._graph = graph
        self._runner = runner
        self._places = places
        self._limits = limits
        self.router = APIRouter()
        for path, submit, summary in (
            (f"/jobs/{BATCH}", self.submit_batch, "Submit a job for each of many files."),
            ("/jobs/{task}", self.submit, "Submit a job: a node of the graph, or `analyze`."),
        ):
            self.router.add_api_route(
                path,
                submit,
                methods=["POST"],
                summary=summary,
                responses=PROBLEMS,
                openapi_extra=_body(batch=path.endswith(BATCH)),
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
            job = await _to_the_end(self._submit(wanted, files[0] if files else None))
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
                job = await _to_the_end(self._submit(wanted, file))
                receipts.append(_receipt(job) | {"filename": file.filename})
                batch_id = job.request.batch_id or batch_id
        return {"batch_id": batch_id, "jobs": receipts}

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


async def _to_the_end(submission: Coroutine[Any, Any, Job]) -> Job:
    """Finish a submission whose client goes away now: otherwise its file would be nobody's."""
    task = asyncio.ensure_future(submission)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise


def _receipt(job: Job) -> dict[str, Any]:
    return {"job_id": job.job_id, "status": job.status, "task_type": job.request.task}


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
