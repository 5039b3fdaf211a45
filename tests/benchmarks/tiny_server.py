"""A tiny HTTP server that answers as a test tells it to, for the load generator."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field


@dataclass
class TinyServer:
    """Reads requests with a Content-Length and answers each with ``answer(number)``.

    ``delays_s`` are waits before single answers, by their number; ``in_turn`` lets one request be
    in work at a time.
    """

    answer: Callable[[int], bytes]
    delays_s: dict[int, float] = field(default_factory=dict)
    in_turn: bool = False
    bodies: list[bytes] = field(default_factory=list)
    heads: list[str] = field(default_factory=list)
    connections: int = 0
    port: int = 0
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def url(self) -> str:
        """Where it listens, with a path and a query."""
        return f"http://127.0.0.1:{self.port}/v1/face_embedding?effort=fast"

    @asynccontextmanager
    async def running(self) -> AsyncIterator["TinyServer"]:
        """Listen on a free port while the block runs."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=2**22)
        self.port = server.sockets[0].getsockname()[1]
        async with server:
            yield self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = int(head.lower().partition("content-length:")[2].split("\r\n")[0])
                self.bodies.append(await reader.readexactly(length))
                self.heads.append(head)
                number = len(self.bodies) - 1
                async with self._turn if self.in_turn else nullcontext():
                    await asyncio.sleep(self.delays_s.get(number, 0.0))
                reply = self.answer(number)
                if not reply:
                    break
                writer.write(reply)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client has gone
        finally:
            writer.close()


def reply(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    """Write one HTTP/1.1 answer."""
    lines = (f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
