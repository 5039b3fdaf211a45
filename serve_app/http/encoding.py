"""Results as bytes on the wire: JSON by default, msgpack where the request accepts it.

msgpack carries embeddings as raw little-endian float32, a quarter of their JSON. A result that is
itself a file is answered with its bytes, unless one of the two is asked for by name.
"""

from collections.abc import Mapping
from dataclasses import is_dataclass
from functools import cache
from typing import Any, Literal
from urllib.parse import quote

import msgpack
from pydantic import TypeAdapter
from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response

from deployments.runtime.types import EncodedFile

JSON = "application/json"
MSGPACK = "application/msgpack"
EVENT_STREAM = "text/event-stream"

adapter_for = cache(TypeAdapter[Any])
"""The Pydantic adapter of a result type, made once."""


class Encoder:
    """Encodes the response of one request in the format that it accepts."""

    def __init__(self, request: Request) -> None:
        """Choose the format from the ``Accept`` header."""
        accept = request.headers.get("accept", "")
        self._binary = MSGPACK in accept
        self._data_wanted = self._binary or JSON in accept
        self.events = EVENT_STREAM in accept
        """Whether the request asks for a stream of events."""

    def response(self, body: object, headers: Mapping[str, str] | None = None) -> Response:
        """Encode a result, or dictionaries and lists of results."""
        headers = dict(headers or {})
        if isinstance(body, EncodedFile) and not self._data_wanted:
            headers["content-disposition"] = f"inline; filename*=UTF-8''{quote(body.filename)}"
            return Response(body.data, media_type=body.media_type, headers=headers)
        if self._binary:
            packed = msgpack.packb(_plain(body, "python"))
            return Response(packed, media_type=MSGPACK, headers=headers)
        return Response(self.json(body), media_type=JSON, headers=headers)

    def json(self, body: object) -> bytes:
        """Encode as JSON, whatever the request accepts."""
        return to_json(_plain(body, "json"))


def _plain(value: object, mode: Literal["json", "python"]) -> Any:  # noqa: ANN401 - dicts, lists and scalars
    """Make results plain data that JSON and msgpack can carry."""
    if is_dataclass(value):
        return adapter_for(type(value)).dump_python(value, mode=mode)
    if isinstance(value, dict):
        return {key: _plain(inner, mode) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner, mode) for inner in value]
    return value
