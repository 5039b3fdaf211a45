"""The routes of jobs: list, watch, fetch; those of the original system, and what it lacked.

Shapes and words of ``GET /jobs/{id}``, of its files and of the ``admin`` routes
are the original job protocol's, so that its clients work unchanged. They are not below ``/v1``.
"""

import asyncio
from collections.abc import AsyncIterator
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from deployments.runtime.errors import (
    ClServeError,
)
from deployments.runtime.media_type import mime_of_name
from serve_app.config import Limits
from serve_app.graph import Graph
from serve_app.http.encoding import EVENT_STREAM
from serve_app.http.events import KEEPALIVE_S
from serve_app.http.outputs import MEDIA_TYPES
from serve_app.http.problems import problem_body
from serve_app.http.stored_file import stored_file_response
from serve_app.http.submissions import PROBLEMS, JobPlaces, SubmissionRoutes
from serve_app.jobs.folders import key_of
from serve_app.jobs.job import Job, JobFilter, JobStats, JobStatus
from serve_app.jobs.remote_runner import RemoteRunner
from serve_app.jobs.shown import shown

MAX_LISTED = 500
DAY_S = 24 * 3600.0
BYTES = "application/octet-stream"


class JobRoutes:
    """``/jobs``, and the routes beside it that clients of the original system call."""

    def __init__(
        self, graph: Graph, runner: RemoteRunner, places: JobPlaces, limits: Limits
    ) -> None:
        """Make the routes; ``router`` holds them."""
        self._graph = graph
        self._runner = runner
        self._places = places
        self.router = APIRouter()
        self.router.include_router(SubmissionRoutes(graph, runner, places, limits).router)
        add = self.router.add_api_route
        add("/jobs", self.find, summary="List jobs, newest first.", responses=PROBLEMS)
        add("/jobs/{job_id}", self.get, summary="How a job stands.", responses=PROBLEMS)
        add(
            "/jobs/{job_id}",
            self.remove,
            methods=["DELETE"],
            status_code=204,
            response_class=Response,
            summary="Forget a job, end it if it has not ended, and remove its files.",
            responses=PROBLEMS,
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
                responses=PROBLEMS,
            )
        add(
            "/jobs/{job_id}/events",
            self.events,
            response_class=StreamingResponse,
            summary="How a job stands, and each change, until it has ended, as server-sent events.",
            responses=PROBLEMS | {200: {"content": {EVENT_STREAM: {}}}},
        )
        add("/jobs/{job_id}/files", self.files, summary="The files of a job.", responses=PROBLEMS)
        for method in ("GET", "HEAD"):
            add(
                "/jobs/{job_id}/files/{path:path}",
                self.read,
                methods=[method],
                operation_id="read_job_file",
                include_in_schema=method == "GET",
                response_class=Response,
                summary="A file of a job, whole or in part (range requests).",
                responses=PROBLEMS,
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
        return shown(await self._runner.again("cancel", job_id))

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


def _event(kind: str, body: dict[str, Any]) -> bytes:
    return format_sse_event(event=kind, data_str=to_json(body).decode())
