"""The load generator against a tiny server."""

import asyncio
from typing import Any

import pytest

from benchmarks.errors import BenchmarkError
from benchmarks.load.child import Window
from benchmarks.load.generator import Target, fetch, generate, mean_stages_ms
from benchmarks.load.run import Run, Timing
from tests.benchmarks.tiny_server import TinyServer, reply


class Marks:
    """A channel that keeps what is sent."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.sent: list[Any] = []

    def send(self, obj: Any, /) -> None:  # noqa: ANN401 - whatever pickles
        """Keep it."""
        self.sent.append(obj)

    def recv(self) -> Any:  # noqa: ANN401 - as above
        """Nothing ever comes."""
        raise EOFError


async def run(url: str, timing: Timing, *bodies: bytes, marks: Marks | None = None) -> Run:
    """Run the generator beside the server, in a thread with a loop of its own."""
    targets = [Target(url, body) for body in bodies or (b"photo",)]
    return await asyncio.to_thread(generate, Window(marks or Marks()), targets, timing)


async def test_a_target_is_sent_as_one_post_with_its_body() -> None:
    """Method, path with query, host, length and body arrive."""
    async with TinyServer(lambda _: reply(b"{}")).running() as server:
        answer = await fetch(Target(server.url, b"photo"))
    assert (200, b"{}") == (answer.status, answer.body)
    assert [b"photo"] == server.bodies
    head = server.heads[0]
    assert head.startswith("POST /v1/face_embedding?effort=fast HTTP/1.1\r\n")
    assert f"Host: 127.0.0.1:{server.port}\r\n" in head


async def test_a_body_of_megabytes_arrives_whole() -> None:
    """A body beyond the socket's buffers is sent completely, and a long answer read so."""
    photo = bytes(range(256)) * 16_000
    async with TinyServer(lambda _: reply(photo)).running() as server:
        answer = await fetch(Target(server.url, photo))
    assert photo == server.bodies[0]
    assert photo == answer.body


async def test_clients_keep_their_connections() -> None:
    """Each client opens one connection for all of its requests."""
    async with TinyServer(lambda _: reply(b"{}")).running() as server:
        found = await run(server.url, Timing(3, 0.05, 0.2))
    assert 3 == server.connections
    assert len(server.bodies) > 6
    assert 3 == found.clients
    assert 0.2 == found.elapsed_s


async def test_what_is_answered_in_the_warm_up_does_not_count() -> None:
    """Only answers within the window are in the run, and the window is marked."""
    marks = Marks()
    async with TinyServer(lambda _: reply(b"{}")).running() as server:
        found = await run(server.url, Timing(1, 0.2, 0.2), marks=marks)
    assert 0 < len(found.latencies_ms) < len(server.bodies)
    assert [("begin", None), ("end", None)] == marks.sent


async def test_the_mean_of_server_timing_is_in_the_run() -> None:
    """The header's metrics become stages."""
    header = "Server-Timing: face_detection;dur=5.0, hop_faces;dur=2.5"
    async with TinyServer(lambda _: reply(b"{}", "200 OK", header)).running() as server:
        found = await run(server.url, Timing(1, 0.0, 0.2))
    assert {"face_detection": 5.0, "hop_faces": 2.5} == pytest.approx(dict(found.stages_ms))


async def test_requests_take_turns() -> None:
    """Each client begins with another one, and goes through all."""
    async with TinyServer(lambda _: reply(b"{}")).running() as server:
        await run(server.url, Timing(2, 0.0, 0.2), b"a", b"b", b"c")
    assert {b"a", b"b", b"c"} == set(server.bodies)
    assert server.bodies[:2] in ([b"a", b"b"], [b"b", b"a"])


async def test_what_fails_is_counted_and_shown() -> None:
    """An answer that is neither 200 nor back-pressure is an error, and no photo done."""

    def answer(number: int) -> bytes:
        broken = number == 2
        return reply(b"too bad", "500 Internal Server Error") if broken else reply(b"{}")

    async with TinyServer(answer).running() as server:
        found = await run(server.url, Timing(1, 0.0, 0.2))
    assert (1, "status 500: too bad") == (found.errors, found.first_error)
    assert 0 == found.refused
    assert 0 < len(found.latencies_ms) < len(server.bodies)


async def test_back_pressure_is_no_error_and_no_photo() -> None:
    """The client comes again when it was told to, and the latency begins with its first try."""
    busy = reply(b"busy", "503 Service Unavailable", "Retry-After: 0.1")
    async with TinyServer(lambda number: busy if number == 0 else reply(b"{}")).running() as server:
        found = await run(server.url, Timing(1, 0.0, 0.3), b"first", b"second")
    assert [b"first", b"first", b"second"] == server.bodies[:3]
    assert (1, 0) == (found.refused, found.errors)
    assert max(found.latencies_ms) > 100


async def test_a_503_without_a_time_is_an_error() -> None:
    """Back-pressure says when to come again; without that it is a failure."""
    busy = reply(b"busy", "503 Service Unavailable")
    async with TinyServer(lambda number: busy if number == 0 else reply(b"{}")).running() as server:
        found = await run(server.url, Timing(1, 0.0, 0.2))
    assert (0, 1) == (found.refused, found.errors)


async def test_a_fixed_rate_does_not_wait_for_answers() -> None:
    """A service that holds one answer for half a second delays no request, and hides no latency."""
    async with TinyServer(lambda _: reply(b"{}"), delays_s={3: 0.5}).running() as server:
        found = await run(server.url, Timing(0, 0.0, 0.5, rate_per_s=40.0))
    assert 20 == len(server.bodies) == len(found.latencies_ms)
    assert 1 == sum(ms > 400 for ms in found.latencies_ms)
    assert 0 == found.clients


async def test_a_slow_service_falls_behind_a_fixed_rate() -> None:
    """Latencies begin when a request is due, so they grow; the window lasts until the last one."""
    delays_s = dict.fromkeys(range(100), 0.05)
    async with TinyServer(lambda _: reply(b"{}"), delays_s, in_turn=True).running() as server:
        found = await run(server.url, Timing(0, 0.0, 0.3, rate_per_s=40.0))
    assert 12 == len(found.latencies_ms)
    assert max(found.latencies_ms) > 250
    assert found.elapsed_s > 0.5


async def test_a_connection_that_breaks_fails_the_run() -> None:
    """A server that hangs up is an error, not a slow answer; without any answer there is no run."""
    async with TinyServer(lambda _: b"").running() as server:
        with pytest.raises(BenchmarkError, match="IncompleteReadError"):
            await run(server.url, Timing(1, 0.0, 0.2))


@pytest.mark.parametrize("rate_per_s", [0.0, 20.0])
async def test_nobody_who_listens_fails_the_run(rate_per_s: float) -> None:
    """A refused connection is an error."""
    with pytest.raises(BenchmarkError, match="Connect"):
        await run("http://127.0.0.1:1/", Timing(1, 0.0, 0.1, rate_per_s))


async def test_an_answer_without_a_length_fails_the_run() -> None:
    """The generator reads Content-Length only, and says so."""
    async with TinyServer(lambda _: b"HTTP/1.1 200 OK\r\n\r\n").running() as server:
        with pytest.raises(BenchmarkError, match="no Content-Length"):
            await run(server.url, Timing(1, 0.0, 0.2))


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], {}),
        ([""], {}),
        (["a;dur=1.5"], {"a": 1.5}),
        (["a;dur=1, b;dur=2", "a;dur=3, b;dur=4"], {"a": 2.0, "b": 3.0}),
        (["a;dur=4", ""], {"a": 2.0}),
        (['a;desc="x";dur=4, b'], {"a": 4.0}),
    ],
)
def test_server_timing_is_averaged_over_answers(
    headers: list[str], expected: dict[str, float]
) -> None:
    """A metric that an answer lacks counts as 0 there, and one without a duration not at all."""
    assert expected == mean_stages_ms(headers)
