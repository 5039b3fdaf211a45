"""Which nodes of a segment run as one piece, and how such a piece runs, fails and ends."""

import asyncio
import threading
from collections.abc import Sequence
from typing import Any, ClassVar

import pytest

from deployments.runtime.capability import Capability, Work
from deployments.runtime.types import Media, Upload
from serve_app.calls import SegmentCall
from serve_app.config import AppArgs
from serve_app.graph import Graph
from serve_app.host import Host
from serve_app.hosted import HostedNode, host_node
from serve_app.segment_run import Chain, chains
from tests.serve_app.fake import (
    LengthList,
    Lengths,
    LengthsParams,
    Slow,
    WordList,
    Words,
    make_settings,
)


class WholeLengths(Lengths):
    """Measures words, no faster in batches."""

    name = "whole"
    threads: ClassVar[set[int]] = set()

    @property
    def gains_from_batches(self) -> bool:
        """As of a model on one thread."""
        return False

    def prepare(self, inputs: tuple[Any, ...], params: LengthsParams) -> Work:
        """Note the thread."""
        self.threads.add(threading.get_ident())
        return super().prepare(inputs, params)


class ListeningWords(Words):
    """Splits a text, and notes the thread."""

    def prepare(self, inputs: tuple[Any, ...], params: Any) -> Work:  # noqa: ANN401 - WordsParams
        """Note the thread."""
        WholeLengths.threads.add(threading.get_ident())
        return super().prepare(inputs, params)


class SlowWords(Slow):
    """Takes its time in a thread of the host's."""

    own_threads = 0
    result = WordList

    def finish(self, work: Work, parts: Sequence[Any]) -> Any:  # noqa: ANN401 - another result
        """Give one word."""
        return WordList(("a",))


KINDS: dict[str, type[Capability[Any, Any]]] = {
    "words": ListeningWords,
    "slow": SlowWords,
    "lengths": Lengths,
    "whole": WholeLengths,
}


def graph(nodes: dict[str, tuple[str, str]]) -> Graph:
    """Make a graph of one host; ``nodes`` is name to capability and the one node it needs."""
    raw = {name: {"capability": kind, "needs": [need]} for name, (kind, need) in nodes.items()}
    args = AppArgs.model_validate({"graph": raw, "hosts": {"all": list(nodes)}})
    return Graph(args, KINDS)


def hosted(made: Graph) -> dict[str, HostedNode]:
    """Load every node of a graph."""
    found = {node.name: host_node(node, make_settings(), None) for node in made.values()}  # pyright: ignore[reportArgumentType] - no thread is needed
    for node in found.values():
        node.load()
    return found


UPLOAD = ("words", "upload")


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ({"a": UPLOAD, "b": ("whole", "a")}, {("a", "b"): ()}),
        ({"a": UPLOAD, "b": ("lengths", "a")}, {("a",): (), ("b",): (("a",),)}),
        ({"a": UPLOAD, "b": UPLOAD}, {("a",): (), ("b",): ()}),
        ({"a": UPLOAD, "b": ("whole", "a"), "c": ("whole", "a")}, {("a", "b", "c"): ()}),
        (
            {"a": UPLOAD, "b": ("lengths", "a"), "c": ("whole", "a")},
            {("a", "c"): (), ("b",): (("a", "c"),)},
        ),
    ],
)
def test_chains(
    nodes: dict[str, tuple[str, str]], expected: dict[Chain, tuple[Chain, ...]]
) -> None:
    """A node that runs whole follows the one that it needs; one that is batched does not."""
    made = graph(nodes)
    (segment,) = made.plan(tuple(nodes))
    assert expected == chains(segment.nodes, hosted(made))


PAIR = graph({"words": UPLOAD, "whole": ("whole", "words")})


def pair() -> Host:
    """Host a chain of two nodes."""
    settings = make_settings()
    return Host([(node, settings) for node in PAIR.values()], {"whole": {"max_batch_size": 2}})


def call(made: Graph, text: bytes, *outputs: str) -> SegmentCall:
    """Make a call to the one segment of a graph."""
    (segment,) = made.plan(outputs)
    return SegmentCall(segment, Upload(Media(text)), {}, {})


async def test_chain_runs_in_one_thread() -> None:
    """Requests at the same time do not share batches, and each runs in one thread."""
    WholeLengths.threads.clear()
    host = pair()
    texts = (b"a bb ccc", b"dddd")
    replies = await asyncio.gather(*(host.run(call(PAIR, text, "whole")) for text in texts))
    assert [LengthList((1, 2, 3)), LengthList((4,))] == [
        reply.results["whole"] for reply in replies
    ]
    assert [["a", "bb"], ["ccc"], ["dddd"]] == Lengths.batches
    assert 1 == len(WholeLengths.threads)
    assert {"words", "whole"} == set(replies[0].elapsed_ms)


async def test_failure_passes_along_a_chain() -> None:
    """A node whose source failed is not run, and says why."""
    reply = await pair().run(call(PAIR, b"\0", "words", "whole"))
    why = "the text holds a zero byte"
    assert {"words": why, "whole": why} == {
        name: str(failure.error) for name, failure in reply.results.items()
    }
    assert [] == Lengths.batches


async def test_cancelled_chain_goes_no_further() -> None:
    """What is in work is told that nobody waits; what follows it is not begun."""
    made = graph({"slow": ("slow", "upload"), "whole": ("whole", "slow")})
    host = Host([(node, make_settings()) for node in made.values()])
    task = asyncio.create_task(host.run(call(made, b"abc", "whole")))
    await asyncio.to_thread(Slow.started.wait)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(Slow.cancelled.wait, 5)
    Slow.go_on.set()
    reply = await host.run(call(made, b"abc", "whole"))  # the thread is free again
    assert {"whole": LengthList((1,))} == reply.results
    assert [["a"]] == Lengths.batches
