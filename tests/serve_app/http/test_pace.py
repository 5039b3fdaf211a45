"""Bodies do not pile up between Serve's replica and the app."""

import asyncio

import pytest
from ray.serve._private.direct_ingress_http_util import ASGIDIReceiveProxy
from starlette.types import Message

from serve_app.http.pace import MAX_WAITING, pace_uploads


async def test_a_client_waits_for_a_slow_app(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an endless body, only so much is read ahead; what is taken makes room."""
    monkeypatch.setattr(ASGIDIReceiveProxy, "__init__", ASGIDIReceiveProxy.__init__)
    pace_uploads()
    pace_uploads()  # a second app in the same process changes nothing
    read = 0

    async def receive() -> Message:
        nonlocal read
        read += 1
        await asyncio.sleep(0)
        return {"type": "http.request", "body": b"x", "more_body": True}

    proxy = ASGIDIReceiveProxy({"type": "http"}, receive, asyncio.get_running_loop())
    fetching = proxy.fetch_until_disconnect_task()
    await asyncio.sleep(0.1)
    assert MAX_WAITING == read
    for _ in range(3):
        await proxy()
    await asyncio.sleep(0.1)
    assert MAX_WAITING + 3 == read
    fetching.cancel()
