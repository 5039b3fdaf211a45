"""The load generator: clients in a closed loop over keep-alive connections.

Each client sends the same prebuilt request, waits for the whole answer, and sends again. It reads
HTTP/1.1 by hand, status, Content-Length and one header, because a full client library would take
more of the machine's cores than some of the services that it measures.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from benchmarks.errors import BenchmarkError
from benchmarks.load.child import Window
from benchmarks.load.run import Run, Timing

_OK = 200
_SHOWN_ERROR_BYTES = 500


@dataclass(frozen=True, slots=True)
class Target:
    """Where the load goes: a URL that takes a photo as the raw body of a POST."""

    url: str
    body: bytes = field(repr=False)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        parts = urlsplit(self.url)
        return parts.hostname or "127.0.0.1", parts.port or 80

    @property
    def request(self) -> bytes:
        """The whole request, head and body."""
        parts = urlsplit(self.url)
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        head = (
            f"POST {path or '/'} HTTP/1.1\r\n"
            f"Host: {parts.netloc}\r\n"
            "Accept: application/json\r\n"
            "Content-Type: application/octet-stream\r\n"
            f"Content-Length: {len(self.body)}\r\n\r\n"
        )
        return head.encode("ascii") + self.body


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer: what the loop needs of it."""

    status: int
    server_timing: str
    body: bytes


def generate(window: Window, target: Target, timing: Timing) -> Run:
    """Make load and measure it; runs in a process of its own, see ``child.in_process``.

    Raises:
        BenchmarkError: an answer was not 200 or a connection broke; figures of a service that
            fails now and then would mean nothing.

    """
    return asyncio.run(_generate(window, target, timing))


async def fetch(target: Target) -> Reply:
    """Send one request on a connection of its own."""
    reader, writer = await asyncio.open_connection(*target.address)
    try:
        return await _exchange(reader, writer, target.request)
    finally:
        writer.close()


def mean_stages_ms(headers: Iterable[str]) -> dict[str, float]:
    """Average ``Server-Timing`` headers: mean ``dur`` of each metric over the answers.

    A metric that some answers lack counts as 0 there, so that means add up to the mean total.
    """
    totals: dict[str, float] = defaultdict(float)
    count = 0
    for header in headers:
        count += 1
        for metric in filter(None, (part.strip() for part in header.split(","))):
            name, _, rest = metric.partition(";")
            for attribute in rest.split(";"):
                key, _, value = attribute.strip().partition("=")
                if key == "dur":
                    totals[name] += float(value)
    return {name: total / count for name, total in totals.items()}


@dataclass(slots=True)
class _Log:
    """What all clients of one run have seen."""

    ends_s: list[float] = field(default_factory=list)
    latencies_ms: list[float] = field(default_factory=list)
    timings: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


async def _generate(window: Window, target: Target, timing: Timing) -> Run:
    log = _Log()
    request = target.request
    begin_s = time.perf_counter() + timing.warm_up_s
    end_s = begin_s + timing.seconds
    clients = [
        asyncio.create_task(_client(target, request, end_s, log)) for _ in range(timing.clients)
    ]
    await asyncio.sleep(begin_s - time.perf_counter())
    window.begin()
    await asyncio.sleep(end_s - time.perf_counter())
    window.end()
    await asyncio.gather(*clients)
    if log.errors:
        raise BenchmarkError(
            f"{target.url}: {len(log.errors)} of {len(log.errors) + len(log.ends_s)} requests "
            f"failed; the first one: {log.errors[0]}",
        )
    inside = [i for i, at_s in enumerate(log.ends_s) if begin_s <= at_s < end_s]
    if not inside:
        raise BenchmarkError(
            f"{target.url}: no answer within {timing.seconds:g} s; measure for longer"
        )
    return Run(
        clients=timing.clients,
        elapsed_s=timing.seconds,
        latencies_ms=[log.latencies_ms[i] for i in inside],
        stages_ms=mean_stages_ms(log.timings[i] for i in inside),
    )


async def _client(target: Target, request: bytes, end_s: float, log: _Log) -> None:
    """Send until ``end_s``; the first broken connection ends this client."""
    try:
        reader, writer = await asyncio.open_connection(*target.address)
        try:
            while (start_s := time.perf_counter()) < end_s:
                reply = await _exchange(reader, writer, request)
                done_s = time.perf_counter()
                if reply.status != _OK:
                    text = reply.body[:_SHOWN_ERROR_BYTES].decode("utf-8", "replace")
                    log.errors.append(f"status {reply.status}: {text}")
                    continue
                log.ends_s.append(done_s)
                log.latencies_ms.append((done_s - start_s) * 1000)
                log.timings.append(reply.server_timing)
        finally:
            writer.close()
    except (OSError, EOFError, ValueError) as error:
        log.errors.append(f"{type(error).__name__}: {error}")


async def _exchange(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    request: bytes,
) -> Reply:
    """Send a request and read its answer.

    Raises:
        OSError, EOFError: the connection broke.
        ValueError: the answer is not HTTP/1.1 with a Content-Length.

    """
    writer.write(request)
    await writer.drain()
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    status_line, _, rest = head.partition("\r\n")
    length: int | None = None
    server_timing = ""
    for line in rest.split("\r\n"):
        name, _, value = line.partition(":")
        match name.lower():
            case "content-length":
                length = int(value)
            case "server-timing":
                server_timing = value.strip()
            case _:
                pass
    if length is None:
        raise ValueError(f"no Content-Length in the answer: {head!r}")
    body = await reader.readexactly(length)
    return Reply(int(status_line.split(" ", 2)[1]), server_timing, body)
