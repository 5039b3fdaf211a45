"""A file of a store as a response, whole or in part (RFC 9110, section 14)."""

import re
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse

from deployments.runtime.file_store import FileStore

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


def stored_file_response(
    store: FileStore,
    key: str,
    request: Request,
    media_type: str,
    filename: str,
) -> Response:
    """Answer with a file, or with the one range of it that is asked for. Blocks.

    Raises:
        PathNotFoundError: there is none.
        InputError: it is a folder.
        ForbiddenPathError: the key leads out of the store.

    """
    info = store.info(key)
    headers = {
        "etag": f'"{info.etag}"',
        "accept-ranges": "bytes",
        "content-disposition": f"inline; filename*=UTF-8''{quote(filename)}",
        # What a client sent may be a page with a script in it.
        "content-security-policy": "sandbox",
        "x-content-type-options": "nosniff",
    }
    if headers["etag"] in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    path = store.local_path(key)
    if path is not None:
        return FileResponse(path, media_type=media_type, headers=headers)
    headers["content-type"] = media_type
    return _streamed(store, key, info.size_bytes, request, headers)


def _streamed(
    store: FileStore,
    key: str,
    size_bytes: int,
    request: Request,
    headers: dict[str, str],
) -> Response:
    start, stop, status = 0, size_bytes, 200
    asked = _RANGE.fullmatch(request.headers.get("range", ""))
    if request.headers.get("if-range", headers["etag"]) != headers["etag"]:
        asked = None  # it has a part of another file, and wants the whole of this one
    if asked is not None and (asked[1] or asked[2]):
        status = 206
        start = int(asked[1]) if asked[1] else max(0, size_bytes - int(asked[2]))
        stop = min(size_bytes, int(asked[2]) + 1) if asked[1] and asked[2] else size_bytes
        if start >= stop:
            headers["content-range"] = f"bytes */{size_bytes}"
            return Response(status_code=416, headers=headers)
        headers["content-range"] = f"bytes {start}-{stop - 1}/{size_bytes}"
    headers["content-length"] = str(stop - start)
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers)
    parts = store.read(key, start, stop)
    return StreamingResponse(parts, status, headers)
