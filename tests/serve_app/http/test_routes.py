"""The whole HTTP app over the fake graph, without a cluster."""

import json
from collections.abc import Iterator
from typing import Any

import msgpack
import pytest
from starlette.testclient import TestClient

from serve_app.config import AppArgs, Limits
from serve_app.host import Host
from serve_app.http.guard import RequestGuard
from serve_app.http.ingress import build_http_app
from serve_app.pipeline import Pipeline
from serve_app.stores import open_stores
from tests.serve_app.fake import ARGS, NOT_INSTALLED, Lengths, make_graph, make_settings

LIMITS = Limits(max_upload_bytes=1000, max_files=3, max_concurrent_requests=2)


def make_client(limits: Limits = LIMITS) -> TestClient:
    """Serve the fake graph with each node in a host of its own."""
    graph = make_graph()
    hosts = {name: Host([(graph[name], make_settings())]) for name in graph}
    stores = open_stores(AppArgs.model_validate(ARGS))
    app = build_http_app(graph, Pipeline(graph, hosts, limits), stores, limits)
    app.add_middleware(RequestGuard, limits=limits)
    return TestClient(app, raise_server_exceptions=False)


@pytest.fixture
def client() -> Iterator[TestClient]:
    """Give the app with small limits."""
    with make_client() as client:
        yield client


def test_raw_body(client: TestClient) -> None:
    """A raw body is answered with the bare result, a request id and the nodes' times."""
    answer = client.post("/v1/lengths", content=b"one three")
    assert (answer.status_code, answer.json()) == (200, {"lengths": [3, 5]})
    assert len(answer.headers["x-request-id"]) == 32
    assert {part.split(";")[0] for part in answer.headers["server-timing"].split(", ")} == {
        "words",
        "hop_words",
        "lengths",
        "hop_lengths",
    }


def test_request_id_is_kept_when_it_is_harmless(client: TestClient) -> None:
    """A client's own request id comes back; one that could break a log line does not."""
    given = client.post("/v1/words", content=b"a", headers={"x-request-id": "trace-1.a_b"})
    assert given.headers["x-request-id"] == "trace-1.a_b"
    forged = client.post("/v1/words", content=b"a", headers={"x-request-id": "a b\tc"})
    assert len(forged.headers["x-request-id"]) == 32


def test_form_with_one_file_and_with_many(client: TestClient) -> None:
    """One file is answered alone; several, or the field ``files``, one by one."""
    one = client.post("/v1/lengths", files={"file": ("a.txt", b"a bb")})
    assert one.json() == {"lengths": [1, 2]}
    many = client.post("/v1/lengths", files=[("file", ("a", b"a")), ("file", ("b", b"\0"))])
    first, second = many.json()["results"]
    assert first == {"filename": "a", "result": {"lengths": [1]}}
    assert second["filename"] == "b"
    assert second["problem"]["type"] == "urn:cl-ml-serve:problem:corrupt-media"
    single = client.post("/v1/lengths", files={"files": ("a", b"a")})
    assert single.json() == {"results": [{"filename": "a", "result": {"lengths": [1]}}]}


def test_parameters_of_the_whole_subgraph(client: TestClient) -> None:
    """A node's route takes its own parameters and those of the nodes that it needs."""
    answer = client.post("/v1/lengths?limit=1&factor=10", content=b"one three")
    assert answer.json() == {"lengths": [30]}


def test_analyze_computes_shared_work_once(client: TestClient) -> None:
    """Several outputs come from one upload; parameters carry their node's name."""
    url = "/v1/analyze?outputs=words,lengths&words.limit=1&lengths.factor=2"
    answer = client.post(url, content=b"one three")
    assert answer.json() == {
        "outputs": {"words": {"words": ["one"]}, "lengths": {"lengths": [6]}},
        "problems": {},
    }
    repeated = client.post("/v1/analyze?outputs=words&outputs=lengths", content=b"a")
    assert set(repeated.json()["outputs"]) == {"words", "lengths"}


def test_analyze_returns_what_succeeded() -> None:
    """A failed branch is a problem beside the results of the others."""
    Lengths.load_error = NOT_INSTALLED
    with make_client() as client:
        answer = client.post("/v1/analyze?outputs=words,lengths", content=b"a")
        assert answer.status_code == 200
        assert answer.json()["outputs"] == {"words": {"words": ["a"]}}
        problem = answer.json()["problems"]["lengths"]
        assert (problem["status"], problem["title"]) == (503, "Model not installed")
        alone = client.post("/v1/lengths", content=b"a")
        assert alone.status_code == 503
        assert alone.headers["retry-after"] == "1"
        assert "cl-serve models pull" in alone.json()["detail"]
        assert client.post("/v1/words", content=b"a").status_code == 200


def test_msgpack(client: TestClient) -> None:
    """A client that accepts msgpack gets it; problems stay JSON."""
    accept = {"accept": "application/msgpack"}
    answer = client.post("/v1/lengths", content=b"a", headers=accept)
    assert answer.headers["content-type"] == "application/msgpack"
    assert msgpack.unpackb(answer.content) == {"lengths": [1]}
    problem = client.post("/v1/lengths", content=b"", headers=accept)
    assert problem.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("path", "content", "status", "kind", "detail"),
    [
        ("/v1/lengths", b"", 400, "empty-input", "the body is empty; send something"),
        ("/v1/lengths", b"\0", 422, "corrupt-media", "the text holds a zero byte"),
        ("/v1/lengths", b"x" * 1001, 413, "too-large", "larger than the limit of"),
        ("/v1/lengths?factor=0", b"a", 422, "invalid-parameter", "factor: "),
        ("/v1/lengths?facto=1", b"a", 422, "invalid-parameter", "facto: unknown parameter"),
        ("/v1/analyze", b"a", 422, "invalid-parameter", "outputs: missing"),
        ("/v1/analyze?outputs=lenghts", b"a", 404, "unknown-output", "unknown output 'lenghts'"),
        ("/v1/analyze?outputs=words&factor=1", b"a", 422, "invalid-parameter", "factor: unknown"),
        ("/v1/lengths", b"crash", 500, "internal", "lengths failed unexpectedly"),
        ("/v1/faces", b"a", 404, "not-found", "there is no /v1/faces"),
    ],
)
def test_problem(  # noqa: PLR0913, PLR0917 - one column each
    client: TestClient,
    path: str,
    content: bytes,
    status: int,
    kind: str,
    detail: str,
) -> None:
    """Each mistake has its own status, kind and sentence, and the next request works."""
    answer = client.post(path, content=content)
    body = answer.json()
    assert (answer.status_code, body["status"]) == (status, status)
    assert answer.headers["content-type"] == "application/problem+json"
    assert body["type"] == f"urn:cl-ml-serve:problem:{kind}"
    assert detail in body["detail"]
    assert body["request_id"] == answer.headers["x-request-id"]
    assert client.post("/v1/lengths", content=b"ok").json() == {"lengths": [2]}


def test_wrong_forms(client: TestClient) -> None:
    """A stray field, an empty file and too many files are refused."""
    stray = client.post("/v1/words", data={"limit": "3"}, files={"file": ("a", b"a")})
    assert stray.status_code == 422
    assert "parameters go into the query, for example /v1/words?limit=3" in stray.json()["detail"]
    empty = client.post("/v1/words", files={"file": ("a", b"")})
    assert (empty.status_code, empty.json()["detail"]) == (400, "'a' is empty: 0 bytes")
    many = client.post("/v1/words", files=[("file", (str(i), b"a")) for i in range(4)])
    assert many.status_code == 400
    assert "Too many files" in many.json()["detail"]


def test_body_without_declared_length_is_bounded(client: TestClient) -> None:
    """A body that is sent in pieces is cut off at the limit as well."""
    answer = client.post("/v1/words", content=iter([b"x" * 600, b"x" * 600]))
    assert answer.json()["type"] == "urn:cl-ml-serve:problem:too-large"


async def test_too_many_requests_are_turned_away() -> None:
    """Beyond the limit requests get 503 with Retry-After at once, and health stays visible."""
    import asyncio  # noqa: PLC0415

    import httpx2  # noqa: PLC0415

    Lengths.infer_s = 0.2
    transport = httpx2.ASGITransport(make_client().app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        posts = [client.post("/v1/lengths", content=b"a") for _ in range(4)]
        *answers, health = await asyncio.gather(*posts, client.get("/healthz"))
        assert sorted(answer.status_code for answer in answers) == [200, 200, 503, 503]
        refused = next(answer for answer in answers if answer.status_code == 503)
        assert refused.headers["retry-after"] == "1"
        assert refused.json()["type"] == "urn:cl-ml-serve:problem:overloaded"
        assert health.status_code == 200
        assert (await client.post("/v1/lengths", content=b"a")).status_code == 200


def test_deadline() -> None:
    """A request that takes too long gets 504 and its limit."""
    Lengths.infer_s = 0.3
    with make_client(Limits(request_timeout_s=0.05)) as client:
        answer = client.post("/v1/lengths", content=b"a")
        assert answer.status_code == 504
        assert "its limit of 0.05 s" in answer.json()["detail"]


def test_about(client: TestClient) -> None:
    """The server describes itself: health, readiness, capabilities, models, graph."""
    assert client.get("/healthz").json() == {"status": "alive"}
    ready = client.get("/readyz")
    assert (ready.status_code, ready.json()["status"]) == (200, "ready")
    assert set(ready.json()["nodes"]) == {"words", "lengths"}
    capabilities = client.get("/v1/capabilities").json()["capabilities"]
    assert [c["route"] for c in capabilities] == ["/v1/words", "/v1/lengths"]
    assert capabilities[1]["params"]["properties"]["factor"]["minimum"] == 1
    models = {m["name"]: m for m in client.get("/v1/models").json()["models"]}
    assert models["mobilefacenet"]["used_by"] == ["lengths"]
    assert models["mobilefacenet"]["licence"] == "Apache-2.0"
    nodes = client.get("/v1/graph").json()["nodes"]
    assert [(n["name"], n["needs"], n["gives"]) for n in nodes] == [
        ("words", ["upload"], "WordList"),
        ("lengths", ["words"], "LengthList"),
    ]


def test_readiness_tells_missing_from_broken() -> None:
    """A default model that is missing makes the server unready and names the command."""
    Lengths.load_error = NOT_INSTALLED
    with make_client() as client:
        answer = client.get("/readyz")
        assert answer.status_code == 503
        assert answer.json()["nodes"]["lengths"]["state"] == "not_installed"
        assert "cl-serve models pull" in answer.json()["nodes"]["lengths"]["detail"]


def test_openapi_describes_every_route(client: TestClient) -> None:
    """The OpenAPI document has each node's route with its parameters and result."""
    document: dict[str, Any] = client.get("/openapi.json").json()
    route = document["paths"]["/v1/lengths"]["post"]
    assert {p["name"] for p in route["parameters"]} == {"limit", "factor"}
    assert "multipart/form-data" in route["requestBody"]["content"]
    analyze = document["paths"]["/v1/analyze"]["post"]
    assert {"outputs", "words.limit", "lengths.factor"} == {
        p["name"] for p in analyze["parameters"]
    }
    assert "#/$defs" not in json.dumps(document)


async def test_client_that_goes_away_while_it_sends(caplog: pytest.LogCaptureFixture) -> None:
    """It is one line in the log, not an unexpected error."""
    messages = iter([{"type": "http.request", "body": b"x", "more_body": True}])

    async def receive() -> dict[str, Any]:
        return next(messages, {"type": "http.disconnect"})

    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:  # noqa: ANN401 - an ASGI message
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/words",
        "raw_path": b"/v1/words",
        "query_string": b"",
        "headers": [],
        "server": ("test", 80),
        "scheme": "http",
    }
    await make_client().app(scope, receive, send)  # pyright: ignore[reportArgumentType]
    assert 499 == sent[0]["status"]
    assert [] == [record for record in caplog.records if record.exc_info]
