"""Reading uploads: one raw body, or a multipart form with one or many files."""

from dataclasses import dataclass
from typing import Any

from starlette.datastructures import UploadFile
from starlette.requests import Request

from deployments.runtime.errors import EmptyInputError, InvalidParameterError
from deployments.runtime.types import Media
from serve_app.config import Limits

MANY_FIELD = "files"
"""A form field of this name asks for a list of answers, even with one file in it."""

REQUEST_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": (
            "One file as the raw body, or a form: the field `file` with one file is answered with "
            "one result; several files, or the field `files`, are answered per file."
        ),
        "content": {
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        "files": {
                            "type": "array",
                            "items": {"type": "string", "format": "binary"},
                        },
                    },
                },
            },
        },
    },
}
"""The OpenAPI description of what ``read_uploads`` takes."""


@dataclass(frozen=True, slots=True)
class Uploads:
    """The files of one request; ``many`` tells whether to answer with a list."""

    files: tuple[Media, ...]
    many: bool


async def read_uploads(request: Request, limits: Limits) -> Uploads:
    """Read all files of a request into memory; the guard has bounded their size.

    Raises:
        EmptyInputError: no file, or a raw body without a byte.
        InvalidParameterError: a form field that is not a file.

    """
    content_type = request.headers.get("content-type", "")
    if not content_type.startswith("multipart/form-data"):
        data = await request.body()
        if not data:
            raise EmptyInputError(
                "the body is empty; send a file, for example: "
                f"curl -F file=@photo.jpg {request.url.replace(query='')}",
            )
        return Uploads((Media(data),), many=False)

    files: list[Media] = []
    many = False
    async with request.form(max_files=limits.max_files, max_fields=limits.max_files) as form:
        for name, value in form.multi_items():
            if not isinstance(value, UploadFile):
                raise InvalidParameterError(
                    f"form field {name!r} is not a file; parameters go into the query, "
                    f"for example {request.url.path}?{name}={value[:40]}",
                )
            files.append(Media(await value.read(), value.filename))
            many = many or name == MANY_FIELD
    if not files:
        raise EmptyInputError(
            "the form holds no file; send one, for example: curl -F file=@photo.jpg"
        )
    return Uploads(tuple(files), many=many or len(files) > 1)
