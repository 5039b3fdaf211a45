"""The short way to a node answers as FastAPI's route of the same path does."""

from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from deployments.runtime.errors import EmptyInputError
from serve_app.http.shortcut import Shortcut, Shortcuts
from tests.serve_app.http.test_routes import make_client


@pytest.mark.parametrize("content", [b"one three", b"", b"\0", b"x" * 1001, b"crash"])
def test_same_answer_on_both_ways(content: bytes) -> None:
    """With a parameter at its default, FastAPI answers; without one, the shortcut does."""
    with make_client() as client:
        short, long = (
            client.post(f"/v1/lengths{query}", content=content) for query in ("", "?factor=1")
        )
    assert short.status_code == long.status_code
    assert short.headers["content-type"] == long.headers["content-type"]
    assert _without_request_id(short.json()) == _without_request_id(long.json())


def _without_request_id(body: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value.split(" under request ")[0] if isinstance(value, str) else value
        for name, value in body.items()
        if name != "request_id"
    }


async def _respond(request: Request) -> Response:
    body = await request.body()
    if not body:
        raise EmptyInputError("nothing")
    return PlainTextResponse(f"short: {request.scope['route'].path}")


async def _answer_error(_request: Request, error: Exception) -> Response:
    return PlainTextResponse(str(error), 400)


async def _passed_on(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("passed on")(scope, receive, send)


@pytest.mark.parametrize(
    ("method", "url", "content", "answer"),
    [
        ("POST", "/v1/words", b"a", "short: /v1/words"),
        ("POST", "/v1/words", b"", "nothing"),
        ("POST", "/v1/words?limit=3", b"a", "passed on"),
        ("POST", "/v1/words/", b"a", "passed on"),
        ("GET", "/v1/words", b"", "passed on"),
    ],
)
def test_what_is_short(method: str, url: str, content: bytes, answer: str) -> None:
    """Only a POST to the very path, without a query, goes the short way."""
    shortcuts = {"/v1/words": Shortcut(Route("/v1/words", _passed_on), _respond)}
    app = Shortcuts(_passed_on, shortcuts, {EmptyInputError: _answer_error})
    assert TestClient(app).request(method, url, content=content).text == answer
