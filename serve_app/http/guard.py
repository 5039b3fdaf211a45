"""The outermost layer of the HTTP app: request ids, limits, and one log line per failed request.

Plain ASGI, since Starlette's ``BaseHTTPMiddleware`` costs more than the whole route.
"""

import asyncio
import dataclasses
import logging
import re
import time
import uuid

from ray.serve import context as serve_context
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.runtime.errors import (
    ClServeError,
    OverloadedError,
    StalledUploadError,
    TooLargeError,
)
from serve_app.config import Limits
from serve_app.http.problems import PROBLEM_JSON, problem_body
from serve_app.logs import set_up_logs
from serve_app.metrics import count_http_request, sampler

logger = logging.getLogger("ray.serve")

REQUEST_ID = "x-request-id"
_REQUEST_ID_FORM = re.compile(r"[A-Za-z0-9._-]{1,128}")
_COUNTED_PREFIX = "/v1/"
"""Only these requests count against the limit, so that health stays visible under load."""

_STREAMED_PREFIX = "/jobs"
"""Bodies of these requests go to disk and may be larger."""

STALLED_S = 30.0
"""Without a byte in the middle of an upload: a phone that changes its network is back by then, and
one that vanished without a word holds a place, and what it has sent, no longer."""

RETRY_STATUS = 503

OTHER_ROUTE = "other"
"""Label of requests that no route took: their paths are anybody's invention, and without end."""


class RequestGuard:
    """Gives each request an id, bounds how many run and how much they send."""

    def __init__(
        self,
        app: ASGIApp,
        limits: Limits,
        *,
        max_job_bytes: int = 0,
        echo_request_id: bool = True,
    ) -> None:
        """Wrap an app.

        Args:
            app: what answers.
            limits: the bounds.
            max_job_bytes: body size of a job's submission, where jobs are kept.
            echo_request_id: off where Serve puts the id into responses.

        """
        self._app = app
        self._limits = limits
        self._max_job_bytes = max_job_bytes
        self._echo_request_id = echo_request_id
        self._running = 0
        set_up_logs()
        sampler()  # an ingress may host no node that would have started it

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection of the ASGI server."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get(REQUEST_ID, "")
        request_id = given if _REQUEST_ID_FORM.fullmatch(given) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        _use_in_logs(request_id)
        start_s = time.perf_counter()

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", OTHER_ROUTE)
                count_http_request(route, message["status"])
                response_headers = MutableHeaders(scope=message)
                if self._echo_request_id:
                    response_headers[REQUEST_ID] = request_id
                if message["status"] >= 400:  # noqa: PLR2004 - an HTTP error
                    elapsed_ms = (time.perf_counter() - start_s) * 1000
                    logger.warning(
                        "%s %s → %d in %.0f ms, request %s",
                        scope["method"],
                        scope["path"],
                        message["status"],
                        elapsed_ms,
                        request_id,
                    )
                if message["status"] == RETRY_STATUS and "retry-after" not in response_headers:
                    response_headers["retry-after"] = str(self._limits.retry_after_s)
            await send(message)

        counted = scope["path"].startswith(_COUNTED_PREFIX) and scope["method"] == "POST"
        streamed = scope["path"].startswith(_STREAMED_PREFIX)
        max_bytes = max(streamed * self._max_job_bytes, self._limits.max_upload_bytes)
        refusal = self._refusal(headers, max_bytes, counted=counted)
        if refusal is not None:
            await problem_response(refusal, request_id)(scope, receive, send_with_id)
            return
        self._running += counted
        try:
            await self._app(scope, _bounded(receive, max_bytes), send_with_id)
        finally:
            self._running -= counted

    def _refusal(
        self,
        headers: Headers,
        max_bytes: int,
        *,
        counted: bool,
    ) -> ClServeError | None:
        declared = headers.get("content-length", "0")
        if declared.isdecimal() and int(declared) > max_bytes:
            return _too_large(max_bytes)
        if counted and self._running >= self._limits.max_concurrent_requests:
            return OverloadedError(
                f"{self._running} requests are in work already, which is this server's limit; "
                f"try again in {self._limits.retry_after_s} s",
            )
        return None


def _bounded(receive: Receive, max_bytes: int) -> Receive:
    """Bound how much comes in, and how long it stops in between."""
    received = 0
    awaited = True

    async def bounded() -> Message:
        nonlocal received, awaited
        if not awaited:
            return await receive()  # waits for the client to go away
        try:
            async with asyncio.timeout(STALLED_S):
                message = await receive()
        except TimeoutError as error:
            raise StalledUploadError(
                f"nothing came for {STALLED_S:g} s, after {received} bytes; send it again",
            ) from error
        awaited = message.get("more_body", False)
        received += len(message.get("body", b""))
        if received > max_bytes:
            raise _too_large(max_bytes)
        return message

    return bounded


def _too_large(max_bytes: int) -> TooLargeError:
    limit_mib = max_bytes / 2**20
    return TooLargeError(f"the request body is larger than the limit of {limit_mib:g} MiB")


def _use_in_logs(request_id: str) -> None:
    """Make this the id in Serve's log lines and on the way to other replicas.

    It is already, unless the client sent an id of a form that is not accepted here.
    """
    current = serve_context._get_serve_request_context()  # noqa: SLF001 - Serve has no public way
    if current.request_id != request_id:
        changed = dataclasses.replace(current, request_id=request_id)
        serve_context._serve_request_context.set(changed)  # noqa: SLF001 - as above  # pyright: ignore[reportArgumentType] - Ray says None


def problem_response(error: ClServeError, request_id: str) -> Response:
    """Answer with a problem, whatever the request accepts: that is what RFC 9457 is for."""
    body = problem_body(error, request_id)
    return JSONResponse(body, body["status"], media_type=PROBLEM_JSON)
