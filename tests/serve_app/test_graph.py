"""The typed graph: validation of its edges, sub-graphs and the plan of hops."""

from typing import Any

import pytest

from deployments.runtime.errors import ConfigError, UnknownOutputError
from serve_app.config import AppArgs
from serve_app.graph import deployment_names
from tests.serve_app.fake import ARGS, make_graph

WORDS, LENGTHS = ARGS["graph"]["words"], ARGS["graph"]["lengths"]


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ({"graph": {"nothing": {"needs": []}}}, "args.graph.nothing: no installed package"),
        ({"graph": {"image": {"needs": []}}}, "args.graph.image: 'image' is a reserved name"),
        (
            {"graph": {"words": {"needs": ["uplaod"]}}},
            "args.graph.words.needs[0]: unknown source 'uplaod'; did you mean 'upload'?",
        ),
        (
            {"graph": {"words": {"needs": ["image"]}}},
            "args.graph.words.needs: expected Asset (from upload), got image (Picture)",
        ),
        ({"graph": {"words": {"needs": []}}}, "expected Asset (from upload), got nothing"),
        (
            {"graph": {"words": {"needs": ["lengths"]}, "lengths": {"needs": ["words"]}}},
            "expected no circle, got words → lengths → words",
        ),
        (
            {"hosts": {"tools": ["words", "leghts"]}},
            "args.hosts.tools[1]: 'leghts' is not a node of the graph; did you mean 'lengths'?",
        ),
        (
            {"hosts": {"a": ["words"], "b": ["words"]}},
            "args.hosts.b[0]: expected each node in one host, got 'words', which is in 'a'",
        ),
        (
            {"hosts": {"words": ["words", "lengths"]}},
            "args.hosts.words: a host that holds several nodes can't have a node's name",
        ),
    ],
)
def test_wrong_graph(args: dict[str, Any], expected: str) -> None:
    """A mistake in the graph names its key, the value and what was expected."""
    with pytest.raises(ConfigError) as raised:
        make_graph(**args)
    assert expected in str(raised.value)


def test_all_mistakes_at_once() -> None:
    """Everything that is wrong with a graph is said, not only the first."""
    graph = {"words": {"needs": ["uplaod"]}, "lengths": {"needs": ["image"]}, "x": {"needs": []}}
    with pytest.raises(ConfigError) as raised:
        make_graph(graph=graph, hosts={"a": ["words"], "b": ["words", "y"]})
    keys = [line.partition(": ")[0] for line in str(raised.value).splitlines()]
    expected = [
        "hosts.b[0]",
        "hosts.b[1]",
        "graph.words.needs[0]",
        "graph.lengths.needs",
        "graph.x",
    ]
    assert [f"args.{key}" for key in expected] == keys


def test_deployments_of_the_file() -> None:
    """Deployments are known without a graph, in the order of the file, the ingress first."""
    args = AppArgs.model_validate({**ARGS, "hosts": {"ingress": ["lengths"]}})
    assert {"ingress": ("lengths",), "words": ("words",)} == deployment_names(args)


def test_subgraph_holds_what_the_outputs_need() -> None:
    """An output brings the nodes it needs, in topological order, and no others."""
    graph = make_graph()
    assert graph.subgraph(["words"]) == ("words",)
    assert graph.subgraph(["lengths"]) == ("words", "lengths")
    with pytest.raises(UnknownOutputError, match="'faces'; this graph offers lengths, words"):
        graph.subgraph(["faces"])


def test_plan_makes_one_hop_per_host() -> None:
    """Nodes in deployments of their own take a hop each, and results travel along."""
    first, second = make_graph().plan(["lengths"])
    assert (first.host, first.nodes, first.exports) == ("words", ("words",), ("words",))
    assert (first.needs_upload, second.needs_upload) == (True, False)
    assert (second.host, second.imports, second.exports) == ("lengths", ("words",), ("lengths",))


def test_plan_joins_nodes_of_one_host() -> None:
    """Nodes that share a host run in one hop, and only what is wanted comes back."""
    graph = make_graph(hosts={"text": ["words", "lengths"]})
    (segment,) = graph.plan(["lengths"])
    assert (segment.host, segment.nodes) == ("text", ("words", "lengths"))
    assert (segment.imports, segment.exports) == ((), ("lengths",))


def test_plan_never_makes_a_circle_between_hosts() -> None:
    """A host on both sides of another one is called twice instead of waiting for itself."""
    graph = make_graph(
        graph={
            "words": WORDS,
            "lengths": LENGTHS,
            "more_words": {**WORDS, "capability": "words"},
            "more_lengths": {"needs": ["more_words"], "capability": "lengths"},
        },
        hosts={"a": ["words", "more_lengths"], "b": ["lengths", "more_words"]},
    )
    plan = graph.plan(["lengths", "more_lengths"])
    assert [(s.host, s.nodes) for s in plan] == [
        ("a", ("words",)),
        ("b", ("more_words",)),
        ("a", ("more_lengths",)),
        ("b", ("lengths",)),
    ]
