"""A request answered as server-sent events: progress while it is worked on, its result at last.

Asked for with ``Accept: text/event-stream``. Events are ``progress`` with node and percent, then
either ``result`` or ``problem``; their data is JSON.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from pydantic_core import to_json
from starlette.responses import StreamingResponse

from deployments.runtime.errors import ClServeError
from serve_app.calls import Progress, ProgressListener
from serve_app.http.encoding import EVENT_STREAM, Encoder
from serve_app.http.problems import problem_body

logger = logging.getLogger("ray.serve")

KEEPALIVE_S = 15.0
"""Proxies end connections on which nothing comes; 30 s and 60 s are common limits."""


def stream_events(
    encoder: Encoder,
    work: Callable[[ProgressListener], Awaitable[Any]],
    request_id: str,
) -> StreamingResponse:
    """Run ``work`` while its progress is sent; when the client goes away, it is cancelled."""

    async def events() -> AsyncIterator[bytes]:
        news: asyncio.Queue[Progress | None] = asyncio.Queue()
        running = asyncio.ensure_future(work(news.put_nowait))
        running.add_done_callback(lambda _: news.put_nowait(None))
        try:
            while True:
                try:
                    progress = await asyncio.wait_for(news.get(), KEEPALIVE_S)
                except TimeoutError:
                    yield KEEPALIVE_COMMENT
                    continue
                if progress is None:
                    break
                event = {"node": progress.node, "percent": round(progress.percent, 1)}
                yield _event("progress", to_json(event))
            yield await _last_event(encoder, running, request_id)
        finally:
            running.cancel()

    return StreamingResponse(events(), media_type=EVENT_STREAM)


async def _last_event(
    encoder: Encoder,
    running: asyncio.Future[Any],
    request_id: str,
) -> bytes:
    try:
        return _event("result", encoder.json(await running))
    except ClServeError as error:
        return _event("problem", to_json(problem_body(error, request_id)))
    except Exception:
        # The answer has begun with 200, so this is the one way left to say that it failed.
        logger.exception("request %s failed unexpectedly", request_id)
        unexpected = ClServeError(f"unexpected error; the log has it under request {request_id}")
        return _event("problem", to_json(problem_body(unexpected, request_id)))


def _event(kind: str, data: bytes) -> bytes:
    return format_sse_event(event=kind, data_str=data.decode())
