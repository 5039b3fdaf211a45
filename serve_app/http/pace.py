"""Uploads no faster than they are written: bodies that come in must not pile up in memory.

Serve's replica reads a request's body into a queue without an end, as fast as the network
brings it. Here it reads on when the app has taken what there is, so that the client is slowed down
instead.
"""

import asyncio
from typing import Any

from ray.serve._private.direct_ingress_http_util import ASGIDIReceiveProxy
from starlette.types import Message, Receive

MAX_WAITING = 16
"""Messages that were read and not yet taken; the server makes them of up to 256 KiB."""

PAUSE_S = 0.002
"""A message of that size every so often is faster than a network of a gigabit."""


def pace_uploads() -> None:
    """Bound what all requests of this process, from now on, hold of their bodies."""
    original = ASGIDIReceiveProxy.__init__
    if getattr(original, "paced", False):
        return

    def paced(self: Any, scope: Any, receive: Receive, *args: Any) -> None:  # noqa: ANN401 - Serve's own
        async def receive_slowly() -> Message:
            while self._queue is not None and self._queue.qsize() >= MAX_WAITING:  # noqa: ASYNC110 - of another event loop, perhaps
                await asyncio.sleep(PAUSE_S)
            return await receive()

        original(self, scope, receive_slowly, *args)

    paced.paced = True  # pyright: ignore[reportFunctionMemberAccess] - a mark of our own
    ASGIDIReceiveProxy.__init__ = paced  # pyright: ignore[reportAttributeAccessIssue] - same in effect
