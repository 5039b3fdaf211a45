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


async def run(url: str, timing: Timing, marks: Marks | None = None) -> Run:
    """Run the generator beside the server, in a thread with a loop of its own."""
    target = Target(url, b"photo")
    return await asyncio.to_thread(generate, Window(marks or Marks()), target, timing)


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
        found = await run(server.url, Timing(1, 0.2, 0.2), marks)
    assert 0 < len(found.latencies_ms) < len(server.bodies)
    assert [("begin", None), ("end", None)] == marks.sent


async def test_the_mean_of_server_timing_is_in_the_run() -> None:
    """The header's metrics become stages."""
    header = "Server-Timing: face_detection;dur=5.0, hop_faces;dur=2.5"
    async with TinyServer(lambda _: reply(b"{}", "200 OK", header)).running() as server:
        found = await run(server.url, Timing(1, 0.0, 0.2))
    assert {"face_detection": 5.0, "hop_faces": 2.5} == pytest.approx(dict(found.stages_ms))


async def test_one_answer_that_is_not_200_fails_the_run() -> None:
    """The error counts failures and shows the first one."""

    def answer(number: int) -> bytes:
        busy = number == 2
        return reply(b"too busy", "503 Service Unavailable") if busy else reply(b"{}")

    async with TinyServer(answer).running() as server:
        with pytest.raises(BenchmarkError, match=r"1 of \d+ requests failed.*503: too busy"):
            await run(server.url, Timing(1, 0.0, 0.2))


async def test_a_connection_that_breaks_fails_the_run() -> None:
    """A server that hangs up is an error, not a slow answer."""
    async with TinyServer(lambda _: b"").running() as server:
        with pytest.raises(BenchmarkError, match="IncompleteReadError"):
            await run(server.url, Timing(1, 0.0, 0.2))


async def test_nobody_who_listens_fails_the_run() -> None:
    """A refused connection is an error."""
    with pytest.raises(BenchmarkError, match="Connect"):
        await run("http://127.0.0.1:1/", Timing(1, 0.0, 0.1))


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
