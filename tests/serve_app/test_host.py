"""The host class with a fake capability: batching across requests, failures, live tuning."""

import asyncio
from typing import Any

import pytest

from deployments.runtime.errors import ConfigError, InvalidParameterError, ModelIntegrityError
from deployments.runtime.types import Media, Upload
from serve_app import hosted as hosted_module
from serve_app.calls import Failure, Progress, SegmentCall, SegmentReply
from serve_app.graph import Graph
from serve_app.host import Host
from tests.serve_app.fake import (
    NOT_INSTALLED,
    LengthList,
    Lengths,
    Slow,
    WordList,
    make_graph,
    make_settings,
    make_wide_graph,
)

GRAPH = make_graph(hosts={"text": ["words", "lengths"]})


def make_host(graph: Graph = GRAPH, **user_config: Any) -> Host:  # noqa: ANN401 - tuning by node
    """Host the whole fake graph in one process."""
    return Host([(node, make_settings()) for node in graph.values()], user_config)


async def run(host: Host, text: bytes, *outputs: str, **params: Any) -> SegmentReply:  # noqa: ANN401 - by node
    """Run the one segment that the outputs need."""
    (segment,) = GRAPH.plan(outputs)
    return await host.run(SegmentCall(segment, Upload(Media(text)), {}, params))


async def test_runs_a_segment() -> None:
    """Nodes that share a host run in one call, and only the exports come back."""
    reply = await run(make_host(), b"one three", "lengths")
    assert reply.results == {"lengths": LengthList((3, 5))}
    assert set(reply.elapsed_ms) == {"words", "lengths"}


async def test_batches_by_units_across_requests() -> None:
    """While one batch runs, the words of all waiting requests fill the next one."""
    Lengths.infer_s = 0.05
    host = make_host()
    texts = [b"a bb", b"ccc", b"dddd eeeee ffffff", b" "]
    replies = await asyncio.gather(*(run(host, text, "lengths") for text in texts))
    assert [reply.results["lengths"].lengths for reply in replies] == [(1, 2), (3,), (4, 5, 6), ()]
    assert sum(map(len, Lengths.batches)) == 6
    assert len(Lengths.batches) < 4


async def test_reconfigures_batching_and_defaults_live() -> None:
    """New tuning takes effect without a new host; a request's own parameters still win."""
    host = make_host()
    host.reconfigure({"lengths": {"max_batch_size": 2, "params": {"factor": 10}}})
    reply = await run(host, b"a bb ccc", "lengths")
    assert reply.results["lengths"] == LengthList((10, 20, 30))
    assert [len(batch) for batch in Lengths.batches] == [2, 1]
    reply = await run(host, b"a", "lengths", lengths={"factor": 3})
    assert reply.results["lengths"] == LengthList((3,))


@pytest.mark.parametrize(
    ("user_config", "expected"),
    [
        ({"faces": {}}, "user_config.faces: not a node of this deployment"),
        ({"words": {"max_batch": 3}}, "user_config.words.max_batch: unknown key (value 3)"),
        ({"words": {"max_batch_size": 0}}, "user_config.words.max_batch_size: expected a number"),
    ],
)
async def test_wrong_tuning_is_refused(user_config: dict[str, Any], expected: str) -> None:
    """Wrong tuning names its key and leaves the host as it was."""
    host = make_host()
    with pytest.raises(ConfigError) as raised:
        host.reconfigure(user_config)
    assert expected in str(raised.value)
    assert (await run(host, b"a", "words")).results == {"words": WordList(("a",))}


async def test_wrong_default_parameter_is_refused() -> None:
    """A default parameter in the YAML is checked when it is set, not when a request comes."""
    with pytest.raises(InvalidParameterError, match=r"lengths\.factor"):
        make_host(lengths={"params": {"factor": 0}})


async def test_bad_input_fails_its_request_only() -> None:
    """A damaged text is reported with its own error, by the node behind it as well."""
    host = make_host()
    bad, good = await asyncio.gather(
        run(host, b"\0", "words", "lengths"),
        run(host, b"fine", "words", "lengths"),
    )
    assert {name: str(f.error) for name, f in bad.results.items()} == {
        "words": "the text holds a zero byte",
        "lengths": "the text holds a zero byte",
    }
    assert good.results["lengths"] == LengthList((4,))


async def test_unexpected_failure_is_a_value_and_the_next_works() -> None:
    """A crash inside a capability is logged and reported without its innards."""
    host = make_host()
    reply = await run(host, b"crash", "lengths")
    failure = reply.results["lengths"]
    assert isinstance(failure, Failure)
    assert str(failure.error) == "lengths failed unexpectedly; the log has the details"
    assert (await run(host, b"ok", "lengths")).results == {"lengths": LengthList((2,))}


async def test_missing_model_fails_its_node_until_it_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without its model a node fails alone, and works after a pull, without a restart."""
    Lengths.load_error = NOT_INSTALLED
    host = make_host()
    reply = await run(host, b"a", "words", "lengths")
    assert reply.results["words"] == WordList(("a",))
    assert reply.results["lengths"].error is NOT_INSTALLED
    assert (await host.self_test("lengths")).state == "not_installed"
    assert Lengths.loads == 1

    Lengths.load_error = None
    monkeypatch.setattr(hosted_module, "LOAD_RETRY_S", 0.0)
    reply = await run(host, b"a", "lengths")
    assert reply.results["lengths"] == LengthList((1,))
    assert Lengths.loads == 2


async def test_self_test_tells_states_apart() -> None:
    """A self-test tells a working node from a damaged one."""
    host = make_host()
    assert (await host.self_test("lengths")).state == "ready"
    Lengths.load_error = ModelIntegrityError("wrong hash")
    broken = make_host()
    health = await broken.self_test("lengths")
    assert (health.state, health.detail) == ("broken", "wrong hash")
    assert (await broken.self_test("words")).state == "ready"


async def test_unexpected_load_error_stops_the_host() -> None:
    """A bug while loading is not served around: the replica must not start."""
    Lengths.load_error = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        make_host()


def wide_call(text: bytes, *outputs: str) -> SegmentCall:
    """Make a call to one node of the wide graph."""
    (segment,) = WIDE.plan(outputs)
    return SegmentCall(segment, Upload(Media(text)), {}, {})


WIDE = make_wide_graph(hosts={"all": ["words", "copy", "letters", "slow"]})


async def test_long_work_does_not_hold_up_its_neighbours() -> None:
    """A node with threads of its own leaves those of the host to the others."""
    host = Host([(node, make_settings()) for node in WIDE.values()])
    slow = [asyncio.create_task(host.run(wide_call(b"abc", "slow"))) for _ in range(2)]
    await asyncio.to_thread(Slow.started.wait)
    reply = await host.run(wide_call(b"a b", "words"))
    assert WordList(("a", "b")) == reply.results["words"]
    Slow.go_on.set()
    assert [LengthList((3,))] * 2 == [(await task).results["slow"] for task in slow]


async def test_cancelled_call_ends_its_work() -> None:
    """Work that nobody waits for any more is told so, and its file is closed when it has ended."""
    host = Host([(node, make_settings()) for node in WIDE.values()])
    task = asyncio.create_task(host.run(wide_call(b"abc", "slow")))
    await asyncio.to_thread(Slow.started.wait)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(Slow.cancelled.wait, 5)


async def test_progress_comes_before_the_reply() -> None:
    """A stream of a segment gives the progress of its nodes, then the reply."""
    Slow.go_on.set()
    host = Host([(node, make_settings()) for node in WIDE.values()])
    *progress, reply = [item async for item in host.run_with_progress(wide_call(b"abc", "slow"))]
    assert [Progress("slow", 50), Progress("slow", 100)] == progress
    assert isinstance(reply, SegmentReply)
    assert LengthList((3,)) == reply.results["slow"]


async def test_abandoned_stream_cancels_the_work() -> None:
    """Whoever stops listening to the progress stops the work."""
    host = Host([(node, make_settings()) for node in WIDE.values()])
    stream = host.run_with_progress(wide_call(b"abc", "slow"))
    assert Progress("slow", 50) == await anext(stream)
    await stream.aclose()  # pyright: ignore[reportAttributeAccessIssue] - it is a generator
    assert await asyncio.to_thread(Slow.cancelled.wait, 5)


async def test_self_test_of_every_kind() -> None:
    """The sample of every kind of node goes through the path of a request."""
    Slow.go_on.set()
    host = Host([(node, make_settings()) for node in WIDE.values()])
    found = {name: (await host.self_test(name)).state for name in WIDE}
    assert dict.fromkeys(WIDE, "ready") == found
