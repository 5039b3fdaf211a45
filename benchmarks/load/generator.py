"""The load generator: requests over keep-alive connections, in a closed loop or at a fixed rate.

In a closed loop each client sends its next request when it has its last answer. At a fixed rate
requests are due whether others are answered or not, and a latency begins when its request is due:
a service that stalls can't hide it by keeping its clients from asking (no coordinated omission).

It reads HTTP/1.1 by hand, status, Content-Length and two headers, because a full client library
would take more of the machine's cores than some of the services that it measures.
"""

import asyncio
import itertools
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from benchmarks.errors import BenchmarkError
from benchmarks.load.child import Window
from benchmarks.load.connection import Connection, Reply
from benchmarks.load.run import Run, Timing

_OK = 200
_SHOWN_ERROR_BYTES = 500
_DRAIN_S = 60.0
"""What is not answered so long after the window counts as an error, at a fixed rate."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request goes and what it sends: a URL that takes a body by POST."""

    url: str
    body: bytes = field(repr=False)
    content_type: str = "application/octet-stream"

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
            f"Content-Type: {self.content_type}\r\n"
            f"Content-Length: {len(self.body)}\r\n\r\n"
        )
        return head.encode("ascii") + self.body


def generate(window: Window, targets: Sequence[Target], timing: Timing) -> Run:
    """Make load and measure it; runs in a process of its own, see ``child.in_process``.

    Args:
        window: is told when what is measured begins and ends.
        targets: all at one address; they take turns, and each client begins with another one.
        timing: how.

    Raises:
        BenchmarkError: there was no answer in the window.

    """
    return asyncio.run(_generate(window, targets, timing))


async def fetch(target: Target) -> Reply:
    """Send one request on a connection of its own."""
    connection = await Connection.open(target.address)
    try:
        return await connection.exchange(target.request)
    finally:
        connection.close()


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
    """What is seen of a run.

    An answer counts if its moment lies in the window: that when it came, or at a fixed rate that
    when its request was due.
    """

    begin_s: float
    end_s: float
    last_s: float = 0.0
    latencies_ms: list[float] = field(default_factory=list)
    timings: list[str] = field(default_factory=list)
    refused: int = 0
    errors: list[str] = field(default_factory=list)

    def done(self, reply: Reply, moment_s: float, latency_s: float) -> None:
        """Note an answer 200."""
        if self.begin_s <= moment_s < self.end_s:
            self.last_s = time.perf_counter()
            self.latencies_ms.append(latency_s * 1000)
            self.timings.append(reply.server_timing)

    def not_done(self, reply: Reply) -> None:
        """Note another answer."""
        if reply.is_back_pressure:
            self.refused += self.begin_s <= time.perf_counter() < self.end_s
        else:
            text = reply.body[:_SHOWN_ERROR_BYTES].decode("utf-8", "replace")
            self.errors.append(f"status {reply.status}: {text}")


async def _generate(window: Window, targets: Sequence[Target], timing: Timing) -> Run:
    begin_s = time.perf_counter() + timing.warm_up_s
    log = _Log(begin_s, begin_s + timing.seconds)
    requests = [target.request for target in targets]
    address = targets[0].address
    loops = [
        asyncio.create_task(
            _client(address, itertools.islice(itertools.cycle(requests), i, None), log)
        )
        for i in range(timing.clients if not timing.rate_per_s else 0)
    ]
    if timing.rate_per_s:
        loops.append(asyncio.create_task(_at_rate(address, requests, timing, log)))
    await asyncio.sleep(begin_s - time.perf_counter())
    window.begin()
    if timing.rate_per_s:
        await asyncio.gather(*loops)
    else:
        await asyncio.sleep(log.end_s - time.perf_counter())
    window.end()
    await asyncio.gather(*loops)
    if not log.latencies_ms:
        seen = f"the first error: {log.errors[0]}" if log.errors else "measure for longer"
        raise BenchmarkError(f"{targets[0].url}: no answer within {timing.seconds:g} s; {seen}")
    return Run(
        clients=0 if timing.rate_per_s else timing.clients,
        elapsed_s=max(log.last_s - begin_s, timing.seconds)
        if timing.rate_per_s
        else timing.seconds,
        latencies_ms=log.latencies_ms,
        stages_ms=mean_stages_ms(log.timings),
        refused=log.refused,
        errors=len(log.errors),
        first_error=log.errors[0] if log.errors else "",
    )


async def _client(address: tuple[str, int], requests: Iterable[bytes], log: _Log) -> None:
    """Send in a closed loop until the window ends; a broken connection ends this client.

    A photo that is refused is sent again when the answer says, and its latency goes on.
    """
    try:
        connection = await Connection.open(address)
        try:
            for request in requests:
                start_s = time.perf_counter()
                while (sent_s := time.perf_counter()) < log.end_s:
                    reply = await connection.exchange(request)
                    if reply.status == _OK:
                        done_s = time.perf_counter()
                        log.done(reply, done_s, done_s - start_s)
                        break
                    log.not_done(reply)
                    if not reply.is_back_pressure:
                        break
                    await asyncio.sleep(min(reply.retry_after_s, log.end_s - sent_s))
                else:
                    return
        finally:
            connection.close()
    except (OSError, EOFError, ValueError) as error:
        log.errors.append(f"{type(error).__name__}: {error}")


async def _at_rate(
    address: tuple[str, int], requests: Sequence[bytes], timing: Timing, log: _Log
) -> None:
    """Send at a fixed rate from now until the window ends, then wait for the answers."""
    idle: list[Connection] = []

    async def send(request: bytes, due_s: float) -> None:
        try:
            connection = idle.pop() if idle else await Connection.open(address)
            reply = await connection.exchange(request)
        except (OSError, EOFError, ValueError) as error:
            log.errors.append(f"{type(error).__name__}: {error}")
            return
        idle.append(connection)
        if reply.status == _OK:
            log.done(reply, due_s, time.perf_counter() - due_s)
        else:
            log.not_done(reply)

    began_s = time.perf_counter()
    sent: set[asyncio.Task[None]] = set()
    for i, request in enumerate(itertools.cycle(requests)):
        due_s = began_s + i / timing.rate_per_s
        if due_s >= log.end_s:
            break
        await asyncio.sleep(max(due_s - time.perf_counter(), 0.0))
        sent.add(asyncio.create_task(send(request, due_s)))
    late = (await asyncio.wait(sent, timeout=_DRAIN_S))[1]
    log.errors += [f"no answer {_DRAIN_S:g} s after the window"] * len(late)
    for task in late:
        task.cancel()
    for connection in idle:
        connection.close()
