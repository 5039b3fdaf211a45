"""Results as bytes on the wire: JSON by default, msgpack where the request accepts it.

msgpack carries embeddings as raw little-endian float32, a quarter of their JSON.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

import msgpack
from pydantic import TypeAdapter
from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response

JSON = "application/json"
MSGPACK = "application/msgpack"

adapter_for = cache(TypeAdapter[Any])
"""The Pydantic adapter of a result type, made once."""


class Encoder:
    """Encodes the response of one request in the format that it accepts."""

    def __init__(self, request: Request) -> None:
        """Choose the format from the ``Accept`` header."""
        accept = request.headers.get("accept", "")
        self._binary = MSGPACK in accept

    def plain(self, result: object) -> Any:  # noqa: ANN401 - dicts, lists and scalars
        """Make a result dataclass plain data that ``response`` can encode."""
        mode = "python" if self._binary else "json"
        return adapter_for(type(result)).dump_python(result, mode=mode)

    def response(self, body: object, headers: Mapping[str, str] | None = None) -> Response:
        """Encode plain data."""
        if self._binary:
            return Response(msgpack.packb(body), media_type=MSGPACK, headers=headers)
        return Response(to_json(body), media_type=JSON, headers=headers)
