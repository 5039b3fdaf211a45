"""The short way to a node: ``POST /v1/<node>`` without a query goes there at once.

Nearly every request is one of these. It needs no route to be searched and no query to be
checked, and FastAPI's layers for both take longer than what the route itself does
(docs/decisions/0012-request-path.md). All other requests go on to FastAPI.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

ErrorHandlers = Mapping[type[Exception], Callable[[Request, Any], Awaitable[Response]]]
"""What answers an error, by its class, as FastAPI takes it."""


@dataclass(frozen=True, slots=True)
class Shortcut:
    """Where a path leads.

    Attributes:
        route: FastAPI's route of the same path, for whoever wants to know which one it was.
        respond: answers a request without parameters.

    """

    route: BaseRoute
    respond: Callable[[Request], Awaitable[Response]]


class Shortcuts:
    """Middleware, right above FastAPI's own error handling, whose part it takes over."""

    def __init__(
        self, app: ASGIApp, shortcuts: Mapping[str, Shortcut], handlers: ErrorHandlers
    ) -> None:
        """Wrap an app; ``shortcuts`` are by path, and ``handlers`` are those of the app."""
        self._app = app
        self._shortcuts = shortcuts
        self._handlers = handlers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on."""
        shortcut = None
        if scope["type"] == "http" and scope["method"] == "POST" and not scope["query_string"]:
            shortcut = self._shortcuts.get(scope["path"])
        if shortcut is None:
            await self._app(scope, receive, send)
            return
        scope["route"] = shortcut.route
        request = Request(scope, receive, send)
        try:
            response = await shortcut.respond(request)
        except tuple(self._handlers) as error:
            handler = next(h for kind, h in self._handlers.items() if isinstance(error, kind))
            response = await handler(request, error)
        await response(scope, receive, send)
