"""Bodies that go to disk: all that arrives is right, bounded, and gone afterwards."""

import asyncio
import errno
import os
import platform
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Sequence
from io import FileIO
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message

from deployments.runtime.errors import (
    ClServeError,
    InvalidParameterError,
    StorageFullError,
    TooLargeError,
)
from serve_app.http import form_bodies
from serve_app.http.form_bodies import ArrivingFile, safe_name
from serve_app.http.streamed_form import ReceivedForm, receive

PHOTO = os.urandom(70_000)
Fields = Sequence[tuple[str, str]]


def arriving(chunks: Sequence[bytes], content_type: str, *, gone: bool = False) -> Request:
    """Make a request whose body comes in these chunks; at last the client may be gone."""
    messages: list[Message] = [
        {"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks
    ]
    end: Message = {"type": "http.request", "body": b"", "more_body": False}
    messages.append({"type": "http.disconnect"} if gone else end)
    incoming = iter(messages)

    async def next_message() -> Message:
        await asyncio.sleep(0)
        return next(incoming)

    headers = [(b"content-type", content_type.encode())]
    scope = {"type": "http", "method": "POST", "path": "/", "headers": headers}
    return Request(scope, next_message)


def form(fields: Fields, files: Sequence[tuple[str, str, bytes]]) -> tuple[bytes, str]:
    """Write a form the way that a client does."""
    parts: list[Any] = [(name, (None, value.encode())) for name, value in fields]
    parts += [(name, (filename, data)) for name, filename, data in files]
    request = httpx2.Request("POST", "http://x", files=parts)
    return request.read(), request.headers["content-type"]


async def received(
    folder: Path,
    body: bytes,
    content_type: str,
    chunk_bytes: int = 65536,
) -> tuple[ReceivedForm, list[bytes]]:
    """Receive a body; give what came, and the content of its files."""
    chunks = [body[start : start + chunk_bytes] for start in range(0, len(body), chunk_bytes)]
    async with receive(arriving(chunks, content_type), folder, max_files=4) as found:
        contents = [file.path.read_bytes() for file in found.files]
        assert [len(content) for content in contents] == [file.size_bytes for file in found.files]
    assert [] == names_in(folder)
    return found, contents


def names_in(folder: Path) -> list[str]:
    """Tell what is in a folder."""
    return sorted(path.name for path in folder.iterdir())


def multipart(*parts: str, end: str = "--b--\r\n") -> bytes:
    """Write a form by hand."""
    return ("".join(f"--b\r\n{part}\r\n" for part in parts) + end).encode()


BY_HAND = "multipart/form-data; boundary=b"


async def test_form(tmp_path: Path) -> None:
    """Fields and files arrive in their order, each with its name."""
    fields = [("priority", "5"), ("text", "ein rotes Auto, größer"), ("text", ""), ("a.b", "1")]
    files = [("file", "a.jpg", PHOTO), ("files", "b.mp4", b""), ("file", "Köln.png", b"x\r\n--b")]
    found, contents = await received(tmp_path / "deep" / "incoming", *form(fields, files))
    assert fields == found.fields
    assert [data for _, _, data in files] == contents
    assert [name for name, _, _ in files] == [file.field for file in found.files]
    assert ["a.jpg", "b.mp4", "Köln.png"] == [file.filename for file in found.files]


@pytest.mark.parametrize("chunk_bytes", [1, 2, 7, 61])
async def test_split_anywhere(
    tmp_path: Path,
    chunk_bytes: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where the network cuts a form, in a boundary or a header, makes no difference."""
    monkeypatch.setattr("serve_app.http.streamed_form._PART_BYTES", 1)
    data = b"\r\n--\r\n-\r\r\n--b" * 30
    body, content_type = form([("k", "v"), ("größe", "é")], [("file", "ä.bin", data)])
    found, contents = await received(tmp_path, body, content_type, chunk_bytes)
    assert [("k", "v"), ("größe", "é")] == found.fields
    assert ["ä.bin"] == [file.filename for file in found.files]
    assert [data] == contents


async def test_form_without_files(tmp_path: Path) -> None:
    """What clients send when there is no file is a form too."""
    fields = {"path": "/photos/a b&c.jpg", "tags": "", "text": "größer"}
    request = httpx2.Request("POST", "http://x", data=fields)
    content_type = request.headers["content-type"]
    assert "application/x-www-form-urlencoded" == content_type
    found, _ = await received(tmp_path, request.read(), content_type)
    assert list(fields.items()) == found.fields
    assert [] == found.files


@pytest.mark.parametrize("content_type", ["", "image/jpeg", "application/octet-stream"])
async def test_raw_body(tmp_path: Path, content_type: str) -> None:
    """Any other body is a file, and no body is none."""
    found, contents = await received(tmp_path, PHOTO, content_type)
    assert [("file", "file")] == [(file.field, file.filename) for file in found.files]
    assert ([], [PHOTO]) == (found.fields, contents)
    found, _ = await received(tmp_path, b"", content_type)
    assert ReceivedForm() == found


async def test_file_not_chosen(tmp_path: Path) -> None:
    """A file field that was left empty in a browser is no file; one without a name may be."""
    part = 'content-disposition: form-data; name="file"; filename=""\r\n\r\n'
    found, _ = await received(tmp_path, multipart(part), BY_HAND)
    assert [] == found.files
    found, contents = await received(tmp_path, multipart(part + "x"), BY_HAND)
    assert (["file"], [b"x"]) == ([file.filename for file in found.files], contents)


async def test_adopted(tmp_path: Path) -> None:
    """A file that was moved elsewhere stays there; the others go."""
    body, content_type = form([], [("files", "a", b"a"), ("files", "b", b"b")])
    incoming = tmp_path / "incoming"
    async with receive(arriving([body], content_type), incoming, max_files=2) as found:
        assert 0o700 == found.files[0].path.parent.stat().st_mode & 0o777
        found.files[0].path.rename(tmp_path / "kept")
    assert b"a" == (tmp_path / "kept").read_bytes()
    assert [] == names_in(incoming)


@pytest.mark.parametrize(
    ("body", "content_type", "words"),
    [
        (b"x", "multipart/form-data", "names no boundary"),
        (b"x", f"multipart/form-data; boundary={'b' * 999}", "not valid: Boundary length"),
        (b"", BY_HAND, "cut off"),
        (b"nonsense", BY_HAND, "not valid"),
        (multipart("content-disposition form-data\r\n\r\nx"), BY_HAND, "not valid"),
        (multipart("content-disposition: form-data\r\n\r\nx"), BY_HAND, "has no name"),
        (multipart("content-type: text/plain\r\n\r\nx"), BY_HAND, "has no name"),
        (
            multipart('content-disposition: form-data; name="a"\r\n\r\nx', end=""),
            BY_HAND,
            "cut off",
        ),
        (
            multipart('content-disposition: form-data; name="f"; filename="f"\r\n\r\nx', end=""),
            BY_HAND,
            "cut off",
        ),
        (
            multipart('content-disposition: form-data; name="a"\r\n\r\n?').replace(b"?", b"\xff"),
            BY_HAND,
            "not UTF-8",
        ),
        (b"a=%ff", "application/x-www-form-urlencoded", "not UTF-8"),
        (b"a=\xff", "application/x-www-form-urlencoded", "not UTF-8"),
    ],
)
async def test_malformed(body: bytes, content_type: str, words: str, tmp_path: Path) -> None:
    """What is no form is refused in words, and nothing of it remains."""
    with pytest.raises(InvalidParameterError, match=words):
        await received(tmp_path, body, content_type)
    assert [] == names_in(tmp_path)


FIELD = 'content-disposition: form-data; name="a"\r\n\r\n'


@pytest.mark.parametrize(
    ("body", "content_type", "words"),
    [
        (multipart(*[FIELD + "x"] * 10_000), BY_HAND, "more than 1000 fields"),
        (b"&".join([b"a="] * 1001), "application/x-www-form-urlencoded", "more than 1000"),
        (multipart(FIELD + "x" * 5000), BY_HAND, "fields of the form are longer than"),
        (multipart(*[FIELD + "x" * 500] * 10), BY_HAND, "fields of the form are longer than"),
        (b"a=" + b"x" * 5000, "application/x-www-form-urlencoded", "fields of the form are longer"),
        (multipart(*[FIELD.replace('"a"', '"f"; filename="f"')] * 5), BY_HAND, "more than 4 files"),
    ],
)
async def test_too_much(
    body: bytes,
    content_type: str,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Too many fields or files, or too long ones, are refused before they fill the memory."""
    monkeypatch.setattr(form_bodies, "MAX_FIELDS_BYTES", 4096)
    with pytest.raises(TooLargeError, match=words):
        await received(tmp_path, body, content_type)
    assert [] == names_in(tmp_path)


@pytest.mark.parametrize("whole", [True, False])
async def test_client_goes_away(tmp_path: Path, whole: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """Of a client that goes away in the middle of a file, nothing remains."""
    body, content_type = form([], [("file", "a.jpg", PHOTO)])
    request = arriving([body if whole else body[:50_000]], content_type, gone=True)
    with pytest.raises(ClientDisconnect):
        async with receive(request, tmp_path, max_files=1):
            raise AssertionError("nothing has come completely")
    assert [] == names_in(tmp_path)


async def test_cancelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that is cancelled while it writes to the disk leaves nothing behind."""
    writing, go_on = threading.Event(), threading.Event()
    write = ArrivingFile.write

    def slow(file: ArrivingFile, data: bytes) -> None:
        writing.set()
        assert go_on.wait(10)
        write(file, data)

    monkeypatch.setattr(ArrivingFile, "write", slow)
    task = asyncio.create_task(received(tmp_path, PHOTO, ""))
    await asyncio.to_thread(writing.wait, 10)
    task.cancel()
    await asyncio.sleep(0)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [] == names_in(tmp_path)


@pytest.mark.parametrize("content_type", ["", BY_HAND])
async def test_full_disk(
    tmp_path: Path,
    content_type: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A full disk is told as such, and what was written is given back."""
    monkeypatch.setattr(Path, "open", lambda *_, **__: FileIO("/dev/full", "r+"))
    part = 'content-disposition: form-data; name="file"; filename="a"\r\n\r\nx'
    with pytest.raises(StorageFullError, match="the disk has no room for what is sent: No space"):
        await received(tmp_path, multipart(part), content_type)
    assert [] == names_in(tmp_path)


async def test_other_trouble_of_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any other failure of the disk is passed on."""

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(ArrivingFile, "write", fail)
    with pytest.raises(OSError, match="broken"):
        await received(tmp_path, PHOTO, "")
    assert [] == names_in(tmp_path)


async def test_error_in_the_block(tmp_path: Path) -> None:
    """An error of the caller's is its own, and the files go."""
    with pytest.raises(ClServeError, match="mine"):
        async with receive(arriving([PHOTO], ""), tmp_path, max_files=1):
            raise ClServeError("mine")
    assert [] == names_in(tmp_path)


@pytest.fixture
def dead_pid() -> int:
    """The id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def own_start() -> str:
    """When this process began, in the kernel's ticks (proc(5))."""
    return Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]


async def test_leftovers(tmp_path: Path, dead_pid: int) -> None:
    """What a killed process of this machine left is removed by the next; all else is kept."""
    unique = uuid.uuid4().hex
    mine = f"{platform.node()}.{os.getpid()}"
    gone = [f"{platform.node()}.{dead_pid}-1.{unique}", f"{mine}-1.{unique}"]  # ids are used again
    gone.append(f"elsewhere.1-1.{unique}")
    kept = [f"{mine}-{own_start()}.{unique}", f"elsewhere.{dead_pid}-1.{unique}", "a.jpg"]
    for name in (*gone, *kept):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(b"x")
    for path in (tmp_path / gone[-1] / "file", tmp_path / gone[-1], tmp_path / kept[-2]):
        old_s = time.time() - 1000
        os.utime(path, (old_s, old_s))  # of the last one the file is new
    async with receive(arriving([], ""), tmp_path, max_files=1):
        pass
    assert sorted(kept) == names_in(tmp_path)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("", "file"),
        ("...", "file"),
        ("photo.jpg", "photo.jpg"),
        ("Grüße aus Köln.JPG", "Grüße_aus_Köln.JPG"),
        ("../../etc/passwd", "passwd"),
        ("C:\\photos\\a.jpg", "a.jpg"),
        ("/", "file"),
        (".hidden", "hidden"),
        ("a\0b\r\n.jpg", "a_b_.jpg"),
        ("archive.tar.gz", "archive.tar.gz"),
        ("a" * 300 + ".jpg", "a" * 156 + ".jpg"),
        ("ä" * 300, "ä" * 80),
        ("a." + "b" * 300, "a." + "b" * 19),
    ],
)
def test_safe_names(given: str, expected: str) -> None:
    """A client's name of a file becomes one that is safe, short, and keeps its extension."""
    assert expected == safe_name(given)
    assert 0 < len(safe_name(given).encode()) <= 160


MEMORY_TEST = """
import asyncio, re, sys
from pathlib import Path
from starlette.requests import Request
from serve_app.http.streamed_form import receive

HEAD = b'--b\\r\\ncontent-disposition: form-data; name="file"; filename="a.mp4"\\r\\n\\r\\n'
CHUNKS = 300 * 16
left = [HEAD, *([None] * CHUNKS), b"\\r\\n--b--\\r\\n", b""]
left.reverse()

async def next_message():
    chunk = left.pop()
    body = bytes(65536) if chunk is None else chunk
    return {"type": "http.request", "body": body, "more_body": bool(left)}

def peak_kib():
    # Not getrusage: its peak goes on from that of the process that started this one.
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

async def main():
    headers = [(b"content-type", b"multipart/form-data; boundary=b")]
    request = Request({"type": "http", "headers": headers}, next_message)
    before = peak_kib()
    async with receive(request, Path(sys.argv[1]), max_files=1) as form:
        size = form.files[0].size_bytes
    print(size, peak_kib() - before)

asyncio.run(main())
"""


def test_memory(tmp_path: Path) -> None:
    """300 MiB pass through less than 40 MiB of memory."""
    command = [sys.executable, "-c", MEMORY_TEST, str(tmp_path)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    size_bytes, growth_kib = map(int, output.split())
    assert 300 * 2**20 == size_bytes
    assert growth_kib < 40 * 2**10
