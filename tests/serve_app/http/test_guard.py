"""What the outermost layer tells of a request: its id and its route."""

import asyncio
import json
from collections.abc import Iterator

import pytest
from ray.serve import context
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.testclient import TestClient
from starlette.types import Message

from serve_app.config import Limits
from serve_app.http import guard
from serve_app.http.guard import RequestGuard
from tests.serve_app.http.test_routes import make_client


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Collect what is counted; without a cluster nobody could look at it."""
    found: list[tuple[str, int]] = []
    monkeypatch.setattr(guard, "count_http_request", lambda *request: found.append(request))
    return found


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/healthz", ("/healthz", 200)),
        ("POST", "/v1/words", ("/v1/words", 200)),
        ("GET", "/v1/outputs/a/b.txt", ("/v1/outputs/{output_id}/{name:path}", 404)),
        ("GET", "/anything/../else", ("other", 404)),
    ],
)
def test_counts_by_route(
    method: str,
    path: str,
    expected: tuple[str, int],
    counted: list[tuple[str, int]],
) -> None:
    """A request is counted under its route's template, so that labels are finite."""
    with make_client() as client:
        client.request(method, path, content=b"a" if method == "POST" else None)
    assert [expected] == counted


@pytest.fixture
def app_and_seen() -> Iterator[tuple[TestClient, list[str]]]:
    """Give an app that notes which request id Serve's log lines would have."""
    seen: list[str] = []

    async def note(request: Request) -> Response:
        del request
        seen.append(context._get_serve_request_context().request_id)
        return Response()

    app = RequestGuard(Starlette(routes=[Route("/", note)]), Limits())
    with TestClient(app) as client:
        yield client, seen


@pytest.mark.parametrize("given", ["mine-1", "no good\tid"])
def test_one_id_everywhere(given: str, app_and_seen: tuple[TestClient, list[str]]) -> None:
    """Serve's log, and the hosts that it calls, get the id that the answer shows."""
    client, seen = app_and_seen
    answer = client.get("/", headers={"x-request-id": given})
    assert [answer.headers["x-request-id"]] == seen


async def test_stalled_upload(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that stops in the middle is answered, and does not hold its place for ever."""
    monkeypatch.setattr(guard, "STALLED_S", 0.05)
    sent: list[Message] = []

    async def receive() -> Message:
        if not body:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": body.pop(), "more_body": True}

    async def send(message: Message) -> None:
        sent.append(message)

    body = [b"one "]
    scope = {"type": "http", "method": "POST", "path": "/v1/words", "query_string": b""}
    headers = [(b"content-length", b"9")]
    await make_client().app({**scope, "headers": headers}, receive, send)
    assert 408 == sent[0]["status"]
    problem = json.loads(sent[1]["body"])
    assert "nothing came for 0.05 s, after 4 bytes; send it again" == problem["detail"]
