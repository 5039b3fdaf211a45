"""The ingress deployment: HTTP and handle calls come in here and leave for the pipeline.

It stays undecorated, so that the HTTP app is tested without a cluster; ``app.py`` wraps it.
"""

import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi_swagger import patch_fastapi
from ray.serve.handle import DeploymentHandle
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from deployments.runtime.errors import (
    CancelledRequestError,
    ClServeError,
    InvalidParameterError,
)
from deployments.runtime.folders import AllowedFolders
from deployments.runtime.types import Upload
from serve_app.calls import Progress
from serve_app.config import AppArgs, Limits
from serve_app.graph import INGRESS, Graph
from serve_app.host import Host
from serve_app.hosted import NodeWithSettings
from serve_app.http.about import AboutRoutes
from serve_app.http.guard import RequestGuard, problem_response
from serve_app.http.jobs import JobRoutes
from serve_app.http.outputs import OutputRoutes
from serve_app.http.pace import pace_uploads
from serve_app.http.problems import PROBLEM_JSON, http_problem_body
from serve_app.http.routes import NodeRoutes
from serve_app.http.shortcut import ErrorHandlers, Shortcuts
from serve_app.http.submissions import JobPlaces
from serve_app.jobs.folders import INCOMING
from serve_app.jobs.job import JobWork, Outcome
from serve_app.jobs.remote_runner import RemoteRunner
from serve_app.jobs.work import JobWorker
from serve_app.pipeline import Analysis, Pipeline
from serve_app.remote_host import RemoteHost
from serve_app.stores import Stores, jobs_folder
from serve_app.validation import wrong_value

logger = logging.getLogger("ray.serve")


class Ingress:
    """Holds the pipeline, and the nodes that the YAML hosts beside it."""

    def __init__(  # noqa: PLR0913 - what app.py binds
        self,
        graph: Graph,
        handles: Mapping[str, DeploymentHandle],
        local_nodes: Sequence[NodeWithSettings],
        stores: Stores,
        args: AppArgs,
        *,
        jobs: DeploymentHandle | None = None,
    ) -> None:
        """Connect the graph to its hosts; ``handles`` has every deployment that hosts nodes."""
        limits = args.limits
        self._graph = graph
        self._args = args
        self._jobs = jobs
        self._stores = stores
        self._local = Host(local_nodes) if local_nodes else None
        hosts: dict[str, Host | RemoteHost] = {
            name: RemoteHost(name, handle) for name, handle in handles.items()
        }
        if self._local is not None:
            hosts[INGRESS] = self._local
        self._pipeline = Pipeline(graph, hosts, limits)
        self._worker: JobWorker | None = None
        if stores.files is not None:
            files = AllowedFolders(args.files.readable_folders)
            self._worker = JobWorker(self._pipeline, stores.files, files, limits.max_pixels)

    def reconfigure(self, user_config: Mapping[str, Any]) -> None:
        """Take new tuning of the nodes hosted here."""
        if self._local is not None:
            self._local.reconfigure(user_config)

    async def analyze(
        self,
        upload: Upload,
        outputs: Sequence[str],
        params: Mapping[str, Mapping[str, Any]],
        timeout_s: float | None = None,
    ) -> Analysis:
        """Answer a handle call; see ``Pipeline.analyze``."""
        return await self._pipeline.analyze(upload, outputs, params, timeout_s)

    async def work(self, work: JobWork) -> AsyncIterator[Progress | Outcome]:
        """Do one attempt at a job, for the runner; see ``JobWorker.run``."""
        assert self._worker is not None, "the runner is there with ``args.jobs``"  # noqa: S101 - narrows the type
        async with aclosing(self._worker.run(work)) as news:
            async for item in news:
                yield item

    def __serve_build_asgi_app__(self) -> ASGIApp:
        """Build the HTTP app, once the constructor has run."""
        pace_uploads()
        limits, spec = self._args.limits, self._args.jobs
        jobs = job_routes(self._graph, self._args, self._stores, self._jobs)
        app = build_http_app(self._graph, self._pipeline, self._stores, limits, jobs)
        app.add_middleware(
            RequestGuard,
            limits=limits,
            max_job_bytes=spec.max_upload_bytes if spec else 0,
            echo_request_id=False,  # Serve puts the request id into the response itself
        )
        return app


def job_routes(
    graph: Graph,
    args: AppArgs,
    stores: Stores,
    handle: Any,  # noqa: ANN401 - a handle of Serve, or what stands in for one
) -> JobRoutes | None:
    """Make the routes of jobs over the runner's handle; None without jobs."""
    if args.jobs is None or stores.files is None:
        return None
    places = JobPlaces(stores.files, jobs_folder(args.jobs) / INCOMING)
    return JobRoutes(graph, RemoteRunner(handle), places, args.limits)


def build_http_app(
    graph: Graph,
    pipeline: Pipeline,
    stores: Stores,
    limits: Limits,
    jobs: JobRoutes | None = None,
) -> FastAPI:
    """Build the HTTP app over a pipeline; the caller adds the ``RequestGuard``."""
    handlers: ErrorHandlers = {
        ClServeError: _on_error,
        HTTPException: _on_http_error,
        ClientDisconnect: _on_disconnect,
    }
    app = FastAPI(
        title="cl-ml-serve",
        version=version("cl-ml-serve"),
        docs_url=None,
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
        # Its spans would start a trace of their own beside the one that Serve has opened.
        telemetry={"tracing": False},
        summary="A self-hosted photo and video ML service: one typed graph on Ray Serve.",
        exception_handlers={
            **handlers,
            RequestValidationError: _on_validation_error,
            Exception: _on_unexpected,
        },
    )
    # Routes are tried in turn, by Serve for its metrics as well: what is asked most comes first.
    nodes = NodeRoutes(graph, pipeline, limits)
    app.include_router(nodes.router, tags=["capabilities"])
    app.include_router(AboutRoutes(graph, pipeline, stores.models).router, tags=["about"])
    if jobs is not None:
        app.include_router(jobs.router, tags=["jobs"])
    patch_fastapi(app)  # /docs from this machine: FastAPI's own fetches scripts from elsewhere
    app.include_router(OutputRoutes(stores.outputs).router, tags=["outputs"])
    app.add_middleware(Shortcuts, shortcuts=nodes.shortcuts, handlers=handlers)
    components = app.openapi().setdefault("components", {})  # FastAPI keeps what it returns
    components.setdefault("schemas", {}).update(nodes.definitions)
    return app


def _request_id(request: Request) -> str:
    return getattr(request.state, "request_id", "")


async def _on_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ClServeError)  # noqa: S101 - Starlette's handler type is wider
    return problem_response(error, _request_id(request))


async def _on_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - as above
    lines: list[str] = []
    for detail in error.errors():
        name = ".".join(str(part) for part in detail["loc"][1:])
        if detail["type"] == "extra_forbidden":
            lines.append(f"{name}: unknown parameter; /v1/capabilities lists those there are")
        elif detail["type"] == "missing":
            lines.append(f"{name}: missing")
        else:
            lines.append(f"{name}: {wrong_value(detail)}")
    return problem_response(InvalidParameterError("; ".join(lines)), _request_id(request))


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - as above
    detail = str(error.detail)
    if error.status_code == 404:  # noqa: PLR2004 - not found
        detail = f"there is no {request.url.path}; /docs shows what there is"
    body = http_problem_body(error.status_code, detail, _request_id(request))
    return JSONResponse(body, error.status_code, error.headers, PROBLEM_JSON)


async def _on_disconnect(request: Request, error: Exception) -> Response:
    """Answer a client that went away while it was sending: for the log, nobody reads it."""
    del error
    gone = CancelledRequestError("the client went away before it had sent everything")
    return problem_response(gone, _request_id(request))


async def _on_unexpected(request: Request, error: Exception) -> Response:
    logger.error("request %s failed unexpectedly", _request_id(request), exc_info=error)
    detail = f"unexpected error; the log has the details under request {_request_id(request)}"
    return problem_response(ClServeError(detail), _request_id(request))
