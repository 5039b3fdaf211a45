"""Files of a store over HTTP: whole, in part, or not again; from a disk and from S3 alike."""

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from deployments.runtime.errors import ForbiddenPathError, InputError, PathNotFoundError
from deployments.runtime.file_store import FileStore
from serve_app.http.stored_file import stored_file_response
from tests.deployments.runtime.stores_support import s3_endpoint, s3_store

DATA = bytes(range(256)) * 1000
NAME = 'Ein "Bild"\r\nset-cookie: x=1; Köln.html'
STORED = "job/input/page.html"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """The URL of an S3 server."""
    with s3_endpoint() as url:
        yield url


@pytest.fixture(params=["folder", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> FileStore:
    """A store of either kind with a file."""
    if request.param == "folder":
        store = FileStore(str(tmp_path))
    else:
        store = s3_store(request.getfixturevalue("endpoint"))
    store.write(STORED, DATA)
    store.write("job/input/empty", b"")
    return store


@pytest.fixture
def client(store: FileStore) -> httpx2.AsyncClient:
    """A client of an app that answers with the file."""
    app = FastAPI()

    def read(key: str, request: Request) -> Response:
        return stored_file_response(store, key, request, "text/html", NAME)

    app.add_api_route("/{key:path}", read, methods=["GET", "HEAD"])
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://test")


async def test_whole(client: httpx2.AsyncClient) -> None:
    """A whole file comes with its size and type, and can do no harm in a browser."""
    answer = await client.get(STORED)
    assert (200, DATA) == (answer.status_code, answer.content)
    assert str(len(DATA)) == answer.headers["content-length"]
    assert "bytes" == answer.headers["accept-ranges"]
    assert "text/html" == answer.headers["content-type"].partition(";")[0]
    assert "sandbox" == answer.headers["content-security-policy"]
    assert "nosniff" == answer.headers["x-content-type-options"]
    assert "set-cookie" not in answer.headers
    expected = "inline; filename*=UTF-8''Ein%20%22Bild%22%0D%0Aset-cookie%3A%20x%3D1%3B%20K%C3%B6ln"
    assert f"{expected}.html" == answer.headers["content-disposition"]


@pytest.mark.parametrize(
    ("asked", "part"),
    [
        ("bytes=0-0", slice(0, 1)),
        ("bytes=10-299", slice(10, 300)),
        ("bytes=1000-", slice(1000, None)),
        ("bytes=-5", slice(-5, None)),
        ("bytes=-999999999", slice(0, None)),
        ("bytes=255999-999999999", slice(255999, None)),
    ],
)
async def test_part(client: httpx2.AsyncClient, asked: str, part: slice) -> None:
    """A range is answered with that part, and says which it is."""
    start, stop, _ = part.indices(len(DATA))
    answer = await client.get(STORED, headers={"range": asked})
    assert (206, DATA[part]) == (answer.status_code, answer.content)
    assert f"bytes {start}-{stop - 1}/{len(DATA)}" == answer.headers["content-range"]
    assert str(stop - start) == answer.headers["content-length"]


@pytest.mark.parametrize("asked", ["bytes=256000-", "bytes=999999-1000000", "bytes=-0"])
async def test_beyond(client: httpx2.AsyncClient, asked: str) -> None:
    """A range behind the end is refused with the size."""
    answer = await client.get(STORED, headers={"range": asked})
    assert 416 == answer.status_code
    assert f"bytes */{len(DATA)}" == answer.headers["content-range"]


async def test_empty_file(client: httpx2.AsyncClient) -> None:
    """A file of no bytes is a file, of which there is no part."""
    answer = await client.get("job/input/empty")
    assert (200, b"") == (answer.status_code, answer.content)
    answer = await client.get("job/input/empty", headers={"range": "bytes=0-"})
    assert 416 == answer.status_code


async def test_head(client: httpx2.AsyncClient) -> None:
    """HEAD gives the same facts without the bytes."""
    got, head = await client.get(STORED), await client.head(STORED)
    assert (200, b"") == (head.status_code, head.content)
    for name in ("content-length", "etag", "content-disposition", "accept-ranges"):
        assert got.headers[name] == head.headers[name]


async def test_not_again(client: httpx2.AsyncClient, store: FileStore) -> None:
    """Who has a file already does not get it again until it changes."""
    etag = (await client.get(STORED)).headers["etag"]
    again = await client.get(STORED, headers={"if-none-match": f'"other", {etag}'})
    assert (304, b"", etag) == (again.status_code, again.content, again.headers["etag"])
    store.write(STORED, b"changed")
    again = await client.get(STORED, headers={"if-none-match": etag})
    assert (200, b"changed") == (again.status_code, again.content)


async def test_resumed(client: httpx2.AsyncClient) -> None:
    """A part is only given to who has the other part of the same file."""
    etag = (await client.get(STORED)).headers["etag"]
    for known, status in ((etag, 206), ('"other"', 200)):
        headers = {"range": "bytes=10-19", "if-range": known}
        answer = await client.get(STORED, headers=headers)
        assert status == answer.status_code
        assert (DATA[10:20] if status == 206 else DATA) == answer.content


@pytest.mark.parametrize(
    ("key", "error"),
    [
        ("job/missing", PathNotFoundError),
        ("job/input", InputError),
        ("job/../../etc/passwd", ForbiddenPathError),
    ],
)
def test_no_file(store: FileStore, key: str, error: type[Exception]) -> None:
    """What is no file is refused before an answer begins."""
    request = Request({"type": "http", "method": "GET", "headers": []})
    with pytest.raises(error):
        stored_file_response(store, key, request, "text/plain", "x")
