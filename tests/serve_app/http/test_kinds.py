"""Every kind of input and result over HTTP: texts, paths, files as results, events, outputs."""

from collections.abc import Iterator
from pathlib import Path

import msgpack
import pytest
from starlette.testclient import TestClient

from deployments.runtime.capability import NodeSettings
from deployments.runtime.folders import AllowedFolders, OutputStore
from serve_app.config import AppArgs, Limits
from serve_app.host import Host
from serve_app.http.guard import RequestGuard
from serve_app.http.ingress import build_http_app
from serve_app.pipeline import Pipeline
from serve_app.stores import Stores, open_stores
from tests.serve_app.fake import ARGS, Slow, make_wide_graph
from tests.serve_app.http.events import events_of

LIMITS = Limits(max_files=3, max_text_chars=10)
FORM = "application/x-www-form-urlencoded"


@pytest.fixture
def outputs(tmp_path: Path) -> OutputStore:
    """Give a store of results in a folder of its own."""
    return OutputStore(tmp_path / "outputs")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Make the folder that requests may read."""
    folder = tmp_path / "photos"
    folder.mkdir()
    return folder


@pytest.fixture
def client(outputs: OutputStore, photos: Path) -> Iterator[TestClient]:
    """Serve the wide graph."""
    graph = make_wide_graph()
    models = open_stores(AppArgs.model_validate(ARGS)).models
    settings = NodeSettings(store=models, files=AllowedFolders(readable=(photos,)))
    hosts = {name: Host([(graph[name], settings)]) for name in graph}
    app = build_http_app(graph, Pipeline(graph, hosts, LIMITS), Stores(models, outputs), LIMITS)
    app.add_middleware(RequestGuard, limits=LIMITS)
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"files": [("text", (None, "ab")), ("text", (None, "c"))]}, [2, 1]),
        ({"content": "tschüß", "headers": {"content-type": "text/plain"}}, [6]),
        (
            {"content": "a car", "headers": {"content-type": "application/x-www-form-urlencoded"}},
            [5],
        ),
        ({"json": {"text": "abcd"}}, [4]),
        ({"json": {"text": ["a", "bc"]}}, [1, 2]),
    ],
)
def test_ways_to_send_texts(
    client: TestClient, body: dict[str, object], expected: list[int]
) -> None:
    """Texts come as a form, as the raw body, or as JSON."""
    answer = client.post("/v1/letters", **body)  # pyright: ignore[reportArgumentType]
    assert (200, {"lengths": expected}) == (answer.status_code, answer.json())


@pytest.mark.parametrize(
    ("route", "body", "status", "detail"),
    [
        ("letters", {"content": b""}, 400, "curl -F text='a red car' http"),
        ("letters", {"files": {"file": ("a", b"abc")}}, 400, "this needs a text"),
        ("letters", {"content": b"\xff"}, 422, "the text is not UTF-8"),
        ("letters", {"content": b"12345678901"}, 413, "a text has 11 characters; the limit is 10"),
        ("letters", {"json": {"text": ["a"] * 4}}, 413, "4 texts; the limit is 3"),
        ("letters", {"json": {"text": 3}}, 422, "text: expected a string or a list of strings"),
        ("letters", {"json": ["a"]}, 422, "expected an object such as"),
        ("letters", {"json": {"texts": "a"}}, 422, "expected an object such as"),
        (
            "letters",
            {"content": b"{", "headers": {"content-type": "application/json"}},
            422,
            "the body is not valid JSON",
        ),
        ("words", {"json": {"path": 3}}, 422, "path: expected a string"),
        ("words", {"files": [("text", (None, "abc"))]}, 400, "this needs a file"),
        ("words", {"json": {"path": "/etc/passwd"}}, 403, "args.files.readable_folders"),
    ],
)
def test_unusable_inputs(
    client: TestClient,
    route: str,
    body: dict[str, object],
    status: int,
    detail: str,
) -> None:
    """What is missing, too long or of the wrong kind is named, with the way to mend it."""
    answer = client.post(f"/v1/{route}", **body)  # pyright: ignore[reportArgumentType]
    assert status == answer.status_code
    assert detail in answer.json()["detail"]


def test_file_by_its_path(client: TestClient, photos: Path) -> None:
    """A file below an allowed folder is read where it lies, named in a form or in JSON."""
    (photos / "a.txt").write_text("one three")
    path = str(photos / "a.txt")
    in_json = client.post("/v1/words", json={"path": path})
    assert {"words": ["one", "three"]} == in_json.json()
    in_form = client.post("/v1/words", files=[("path", (None, path))])
    assert in_json.json() == in_form.json()


@pytest.mark.parametrize("name", ["../secret", "link", "missing", "folder", "../photos"])
def test_path_that_leads_elsewhere(client: TestClient, photos: Path, name: str) -> None:
    """No path leads out of the folder, or to what is not a file; the next request works."""
    (photos.parent / "secret").write_text("secret")
    (photos / "link").symlink_to(photos.parent / "secret")
    (photos / "folder").mkdir()
    refused = client.post("/v1/words", json={"path": f"{photos}/{name}"})
    assert refused.status_code in (403, 404)
    assert "secret word" not in refused.text
    assert client.post("/v1/words", content=b"a").status_code == 200


def test_result_that_is_a_file(client: TestClient) -> None:
    """It is answered with its bytes, or as data to whoever asks for JSON or msgpack."""
    sent = {"file": ("a b.txt", b"\x00\xff")}
    raw = client.post("/v1/copy", files=sent)
    assert (b"\x00\xff", "application/x-copy") == (raw.content, raw.headers["content-type"])
    assert "inline; filename*=UTF-8''copy%20of%20a%20b.txt" == raw.headers["content-disposition"]
    data = client.post("/v1/copy", files=sent, headers={"accept": "application/json"}).json()
    assert {
        "data": "AP8=",
        "media_type": "application/x-copy",
        "filename": "copy of a b.txt",
    } == data
    packed = client.post("/v1/copy", files=sent, headers={"accept": "application/msgpack"})
    assert b"\x00\xff" == msgpack.unpackb(packed.content)["data"]
    together = client.post("/v1/analyze?outputs=copy,words", files={"file": ("a", b"x")}).json()
    assert "eA==" == together["outputs"]["copy"]["data"]


def test_events_of_long_work(client: TestClient) -> None:
    """Progress comes before the result when a stream of events is asked for."""
    Slow.go_on.set()
    answer = client.post("/v1/slow", content=b"abc", headers={"accept": "text/event-stream"})
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert [
        ("progress", {"node": "slow", "percent": 50.0}),
        ("progress", {"node": "slow", "percent": 100.0}),
        ("result", {"lengths": [3]}),
    ] == events_of(answer.text)


def test_events_of_a_failure(client: TestClient) -> None:
    """A failure is the last event, as a problem."""
    answer = client.post("/v1/words", content=b"\0", headers={"accept": "text/event-stream"})
    ((kind, problem),) = events_of(answer.text)
    assert ("problem", 422) == (kind, problem["status"])
    assert answer.headers["x-request-id"] == problem["request_id"]


def test_outputs_are_served_in_parts_and_removed(client: TestClient, outputs: OutputStore) -> None:
    """The files of a result have the right type, take range requests, and can be removed."""
    with outputs.new() as folder:
        (folder.path / "a.m3u8").write_text("#EXTM3U\n")
        (folder.path / "low").mkdir()
        (folder.path / "low" / "0.m4s").write_bytes(bytes(range(100)))
    base = f"/v1/outputs/{folder.output_id}"
    playlist = client.get(f"{base}/a.m3u8")
    assert ("#EXTM3U\n", "application/vnd.apple.mpegurl") == (
        playlist.text,
        playlist.headers["content-type"],
    )
    part = client.get(f"{base}/low/0.m4s", headers={"range": "bytes=10-12"})
    assert (206, b"\x0a\x0b\x0c", "bytes 10-12/100") == (
        part.status_code,
        part.content,
        part.headers["content-range"],
    )
    assert "video/iso.segment" == part.headers["content-type"]
    head = client.head(f"{base}/low/0.m4s")
    assert (200, "100", b"") == (head.status_code, head.headers["content-length"], head.content)
    assert 204 == client.delete(base).status_code
    assert 404 == client.get(f"{base}/a.m3u8").status_code
    assert 404 == client.delete(base).status_code


@pytest.mark.parametrize(
    "path",
    ["0" * 32 + "/a", "x/a", "%2e%2e/a", "0" * 32 + "/%2e%2e/%2e%2e/etc/passwd"],
)
def test_outputs_that_are_not_there(client: TestClient, outputs: OutputStore, path: str) -> None:
    """An unknown id and a way out of the folder are both just not there."""
    outputs.folder.mkdir(parents=True)
    (outputs.folder.parent / "a").write_text("secret")
    answer = client.get(f"/v1/outputs/{path}")
    assert 404 == answer.status_code
    assert "application/problem+json" == answer.headers["content-type"]
