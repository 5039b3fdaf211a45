"""Reading what a request sends: a raw body, a form, or JSON.

A form has the fields ``file`` (one) or ``files`` (many), ``path`` (a file on the node's disk) and
``text`` (repeated). JSON has ``path`` and ``text``, which may be a list. A raw body is the file,
or the text where the outputs need nothing else.
"""

import json
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import UploadFile
from starlette.requests import Request

from deployments.runtime.errors import EmptyInputError, InvalidParameterError, TooLargeError
from deployments.runtime.types import Media, Upload
from serve_app.config import Limits
from serve_app.http.encoding import JSON
from serve_app.roots import FILE_ROOTS, require

MANY_FIELD = "files"
"""A form field of this name asks for a list of answers, even with one file in it."""

_BINARY = {"type": "string", "format": "binary"}
_TEXTS = {"type": "array", "items": {"type": "string"}}


@dataclass(frozen=True, slots=True)
class Uploads:
    """What one request asks for, one by one; ``many`` tells whether to answer with a list."""

    uploads: tuple[Upload, ...]
    many: bool


def request_body(roots: frozenset[str]) -> dict[str, Any]:
    """Describe in OpenAPI what ``read_uploads`` takes for outputs that need these roots."""
    form: dict[str, Any] = {}
    fields: dict[str, Any] = {}
    content: dict[str, Any] = {}
    if roots & FILE_ROOTS:
        form |= {"file": _BINARY, "files": {"type": "array", "items": _BINARY}}
        fields["path"] = {"type": "string", "description": "A file on the node's disk."}
        content["application/octet-stream"] = {"schema": _BINARY}
    if "texts" in roots:
        fields["text"] = _TEXTS
    if roots == {"texts"}:
        content["text/plain"] = {"schema": {"type": "string"}}
    content["multipart/form-data"] = {"schema": {"type": "object", "properties": form | fields}}
    content[JSON] = {"schema": {"type": "object", "properties": fields}}
    description = (
        "A form, a raw body, or JSON. The form field `file` with one file is answered with one "
        "result; several files, or the field `files`, are answered per file."
    )
    body = {"required": True, "description": description, "content": content}
    return {"requestBody": body}


async def read_uploads(request: Request, roots: frozenset[str], limits: Limits) -> Uploads:
    """Read all that a request sends into memory; the guard has bounded its size.

    Args:
        request: the request.
        roots: what its outputs need.
        limits: the bounds on number and length.

    Raises:
        EmptyInputError: a file or a text is missing, or a raw body has not a byte.
        InvalidParameterError: a form field or a JSON value of another name or kind.
        TooLargeError: a text that is too long, or too many of them.

    """
    content_type = request.headers.get("content-type", "")
    if content_type.startswith("multipart/form-data"):
        found = await _read_form(request, limits)
    elif content_type.partition(";")[0].strip() == JSON:
        found = _read_json(await request.body())
    else:
        found = _read_raw(await request.body(), request, roots)
    for upload in found.uploads:
        check_texts(upload.texts, limits)
        require(roots, upload)
    return found


async def _read_form(request: Request, limits: Limits) -> Uploads:
    media: list[Media] = []
    texts: list[str] = []
    many = False
    async with request.form(max_files=limits.max_files, max_fields=limits.max_files) as form:
        for name, value in form.multi_items():
            if isinstance(value, UploadFile):
                media.append(Media(await value.read(), value.filename))
                many = many or name == MANY_FIELD
            elif name == "text":
                texts.append(value)
            elif name == "path":
                media.append(Media(path=value))
            else:
                raise InvalidParameterError(
                    f"form field {name!r} is neither a file nor `text` nor `path`; parameters go "
                    f"into the query, for example {request.url.path}?{name}={value[:40]}",
                )
    if not media:
        return Uploads((Upload(None, tuple(texts)),), many=False)
    uploads = tuple(Upload(one, tuple(texts)) for one in media)
    return Uploads(uploads, many=many or len(uploads) > 1)


def _read_json(body: bytes) -> Uploads:
    try:
        fields = json.loads(body)
    except ValueError as error:
        raise InvalidParameterError(f"the body is not valid JSON: {error}") from error
    expected = 'expected an object such as {"text": ["a red car"]} or {"path": "/photos/a.jpg"}'
    if not isinstance(fields, dict) or set(fields) - {"text", "path"}:
        raise InvalidParameterError(f"{expected}; a JSON file itself is sent as a form")
    texts, path = fields.get("text", []), fields.get("path")
    texts = [texts] if isinstance(texts, str) else texts
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise InvalidParameterError(f"text: expected a string or a list of strings; {expected}")
    if path is not None and not isinstance(path, str):
        raise InvalidParameterError(f"path: expected a string; {expected}")
    media = Media(path=path) if path is not None else None
    return Uploads((Upload(media, tuple(texts)),), many=False)


def _read_raw(body: bytes, request: Request, roots: frozenset[str]) -> Uploads:
    if not body:
        example = "text='a red car'" if roots == {"texts"} else "file=@photo.jpg"
        raise EmptyInputError(
            "the body is empty; send something, for example: "
            f"curl -F {example} {request.url.replace(query='')}",
        )
    if roots != {"texts"}:
        return Uploads((Upload(Media(body)),), many=False)
    try:
        return Uploads((Upload(None, (body.decode(),)),), many=False)
    except UnicodeDecodeError as error:
        raise InvalidParameterError(f"the text is not UTF-8: {error}") from error


def check_texts(texts: tuple[str, ...], limits: Limits) -> None:
    """Refuse too many, or too long, texts. Raises ``TooLargeError``."""
    if len(texts) > limits.max_files:
        raise TooLargeError(f"{len(texts)} texts; the limit is {limits.max_files}")
    longest = max(map(len, texts), default=0)
    if longest > limits.max_text_chars:
        raise TooLargeError(
            f"a text has {longest} characters; the limit is {limits.max_text_chars}",
        )
