"""One keep-alive HTTP/1.1 connection, as little of it as the load generator needs."""

import asyncio
from dataclasses import dataclass
from typing import Self

_UNAVAILABLE = 503


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer: what the loops need of it.

    ``retry_after_s`` is 0 where the header is missing.
    """

    status: int
    server_timing: str
    retry_after_s: float
    body: bytes

    @property
    def is_back_pressure(self) -> bool:
        """Whether the service says that it has enough to do, and when to come again."""
        return self.status == _UNAVAILABLE and self.retry_after_s > 0


class Connection:
    """A connection that takes one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Keep both directions."""
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, address: tuple[str, int]) -> Self:
        """Connect to a host and port.

        Raises:
            OSError: nobody listens.

        """
        return cls(*await asyncio.open_connection(*address))

    async def exchange(self, request: bytes) -> Reply:
        """Send a request and read its answer.

        Raises:
            OSError, EOFError: the connection broke.
            ValueError: the answer is not HTTP/1.1 with a Content-Length.

        """
        self._writer.write(request)
        await self._writer.drain()
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        status_line, _, rest = head.partition("\r\n")
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in rest.split("\r\n"))
        }
        if "content-length" not in headers:
            raise ValueError(f"no Content-Length in the answer: {head!r}")
        body = await self._reader.readexactly(int(headers["content-length"]))
        return Reply(
            int(status_line.split(" ", 2)[1]),
            headers.get("server-timing", ""),
            float(headers.get("retry-after", 0)),
            body,
        )

    def close(self) -> None:
        """Hang up."""
        self._writer.close()
