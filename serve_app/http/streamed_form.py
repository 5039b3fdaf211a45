"""Receiving bodies of any size: files go to disk as they come, and memory holds one part of them.

Used for jobs. ``uploads.py`` reads the small bodies of ``/v1`` into memory, where they are needed.
Parsing and writing happen in one worker thread of each request, so they keep their order, nothing
else waits for the disk, and what is removed at the end is removed after the last write.
"""

import asyncio
import contextlib
import os
import platform
import re
import shutil
import time
import uuid
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import cache, partial
from pathlib import Path

from python_multipart.multipart import parse_options_header
from starlette.requests import Request

from deployments.runtime.atomic import NO_ROOM_ERRNOS
from deployments.runtime.errors import NodeUnavailableError, StorageFullError
from serve_app.http.form_bodies import (
    ArrivingFile,
    MultipartBody,
    RawBody,
    ReceivedFile,
    ReceivedForm,
    UrlencodedBody,
)

__all__ = ["ReceivedFile", "ReceivedForm", "receive"]

Body = MultipartBody | UrlencodedBody | RawBody

_PART_BYTES = 2**20
"""Handed to the thread at once: the server gives 64 KiB at a time, and each change of threads
costs about as much as writing those."""
ABANDONED_S = 900.0
"""What another machine has not touched for so long: it ends an upload that stalls for 30 s."""

_OWNED = re.compile(r"(?P<machine>.+)\.(?P<pid>\d+)-(?P<started>\d+)\.[0-9a-f]{32}")
"""The name of what a process is receiving. Its id alone is soon that of another one."""


@asynccontextmanager
async def receive(
    request: Request,
    folder: Path,
    *,
    max_files: int,
) -> AsyncIterator[ReceivedForm]:
    """Receive a form, or any other body as one file named ``file``; without a body, neither.

    Files that were not moved elsewhere are removed when the block ends, however it does.

    Args:
        request: the request, of which nothing was read.
        folder: where the files are put. What processes of this machine that died have left there
            is removed.
        max_files: how many of them there may be.

    Raises:
        InvalidParameterError: it is no valid form.
        TooLargeError: too many files or fields, or too long ones.
        StorageFullError: the disk is full.
        NodeUnavailableError: less came than was announced; what was on the way has died.
        ClientDisconnect: the client went away before it had sent everything.

    """
    owned = folder / f"{_this_process()}.{uuid.uuid4().hex}"
    thread = ThreadPoolExecutor(1, thread_name_prefix="receive")
    run = partial(asyncio.get_running_loop().run_in_executor, thread)
    form = ReceivedForm()
    body = _body(request, form, partial(ArrivingFile, owned), max_files)
    try:
        await run(_make, folder, owned)
        part = bytearray()
        received = 0
        async for chunk in request.stream():
            part += chunk
            received += len(chunk)
            if len(part) >= _PART_BYTES:
                await run(_on_disk, body.write, bytes(part))
                part.clear()
        await run(_on_disk, body.write, bytes(part))
        _require_all(request, received)
        await run(_on_disk, body.finish)
        yield form
    finally:
        # The thread goes on with what it has, even where nobody waits for it any more.
        removed = run(_remove, body, owned)
        thread.shutdown(wait=False)
        await asyncio.shield(removed)  # cancelled in the queue, it would never begin


def _body(
    request: Request,
    form: ReceivedForm,
    begin: Callable[[str, str], ArrivingFile],
    max_files: int,
) -> Body:
    kind, options = parse_options_header(request.headers.get("content-type"))
    if kind == b"multipart/form-data":
        return MultipartBody(form, begin, options.get(b"boundary", b""), max_files)
    if kind == b"application/x-www-form-urlencoded":
        return UrlencodedBody(form)
    return RawBody(form, begin)


def _require_all(request: Request, received: int) -> None:
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and received < int(announced):
        raise NodeUnavailableError(
            f"{received} of {announced} bytes came before the connection was lost; send it again",
        )


def _on_disk(function: Callable[..., None], *args: bytes) -> None:
    try:
        function(*args)
    except OSError as error:
        if error.errno in NO_ROOM_ERRNOS:
            raise StorageFullError(
                f"the disk has no room for what is sent: {error.strerror}; remove jobs, or make "
                "room there",
            ) from error
        raise


def remove_abandoned(folder: Path) -> None:
    """Remove what requests were receiving whose processes have died, here or on another machine."""
    for path in folder.iterdir() if folder.is_dir() else ():
        found = _OWNED.fullmatch(path.name)
        if found is not None and _is_abandoned(path, found):
            shutil.rmtree(path, ignore_errors=True)


def _is_abandoned(path: Path, owner: re.Match[str]) -> bool:
    if owner["machine"] == platform.node():
        return _started(int(owner["pid"])) != int(owner["started"])
    with contextlib.suppress(FileNotFoundError):  # its request has just ended
        touched_s = max(part.stat().st_mtime for part in (path, *path.iterdir()))
        return touched_s < time.time() - ABANDONED_S
    return False


@cache
def _this_process() -> str:
    pid = os.getpid()
    return f"{platform.node()}.{pid}-{_started(pid)}"


def _started(pid: int) -> int | None:
    """When a process began, in the kernel's ticks since the machine did; None if there is none."""
    try:
        # The name, in brackets, may hold anything; the 20th field after it is the time (proc(5)).
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except FileNotFoundError:
        return None
    return int(fields[19])


def _make(folder: Path, owned: Path) -> None:
    """Make the folder of a request."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    remove_abandoned(folder)
    owned.mkdir(mode=0o700)


def _remove(body: Body, owned: Path) -> None:
    body.close()
    shutil.rmtree(owned, ignore_errors=True)
