"""A request answered as server-sent events: progress while it is worked on, its result at last.

Asked for with ``Accept: text/event-stream``. Events are ``progress`` with node and percent, then
either ``result`` or ``problem``; their data is JSON.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from pydantic_core import to_json
from starlette.responses import StreamingResponse

from deployments.runtime.errors import ClServeError
from serve_app.calls import Progress, ProgressListener
from serve_app.http.encoding import EVENT_STREAM, Encoder
from serve_app.http.problems import problem_body

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
                yield _event("progress", to_json(asdict(progress)))
            try:
                yield _event("result", encoder.json(await running))
            except ClServeError as error:
                yield _event("problem", to_json(problem_body(error, request_id)))
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError, ClServeError):
                await running

    return StreamingResponse(events(), media_type=EVENT_STREAM)


def _event(kind: str, data: bytes) -> bytes:
    return format_sse_event(event=kind, data_str=data.decode())
