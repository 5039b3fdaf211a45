"""The typed graph: which nodes there are, what feeds them, and which deployment hosts each.

A graph is built from the ``args`` of the application in the YAML and checked completely before
anything starts. Its roots, in ``roots.py``, are not nodes: they are what a request brings along.

An edge carries the result type of the node that it leaves. Each capability states the types
that it takes, so the order of ``needs`` in the YAML is free and a wrong edge is found by type.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any

from deployments.runtime.capability import Capability
from deployments.runtime.errors import ConfigError, UnknownOutputError
from serve_app.config import AppArgs, NodeSpec
from serve_app.roots import ROOTS
from serve_app.validation import Problem, one_of

CapabilityType = type[Capability[Any, Any]]

INGRESS = "ingress"
"""The deployment that takes HTTP requests and handle calls; it may host nodes as well."""

JOBS = "jobs"
"""The deployment that keeps jobs; it hosts no nodes."""


@dataclass(frozen=True, slots=True)
class Node:
    """One node: a capability at its place in the graph.

    ``sources`` are roots or nodes, in the order in which the capability takes its inputs.
    """

    name: str
    capability: CapabilityType
    sources: tuple[str, ...]
    host: str
    spec: NodeSpec

    @property
    def model(self) -> str | None:
        """The catalogue entry that the node runs, or None for a node without a model."""
        return self.spec.model or self.capability.default_model


@dataclass(frozen=True, slots=True)
class Segment:
    """Nodes of one request that one host runs in one call.

    ``nodes`` are in topological order; ``imports`` are nodes of other segments whose results
    must be sent along; ``exports`` are the nodes whose results others, or the caller, want.
    """

    host: str
    nodes: tuple[str, ...]
    imports: tuple[str, ...]
    exports: tuple[str, ...]
    needs_upload: bool


class Graph(Mapping[str, Node]):
    """The validated graph: a mapping from node name to node, in topological order."""

    def __init__(self, args: AppArgs, capabilities: Mapping[str, CapabilityType]) -> None:
        """Build and check the graph.

        Raises:
            ConfigError: unknown capability or source, an edge of the wrong type, a cycle, a node
                in two hosts, or a host that names an unknown node; all that there are.

        """
        raise_problems(graph_problems(args, capabilities))
        hosts = _hosts_of(args)
        kinds = _capabilities_of(args.graph, capabilities)
        self._nodes: dict[str, Node] = {}
        for name in _topological_order(args.graph):
            spec = args.graph[name]
            sources = _match_sources(name, spec, kinds)
            assert sources is not None, "edges were checked above"  # noqa: S101 - narrows the type
            self._nodes[name] = Node(name, kinds[name], sources, hosts.get(name, name), spec)

    def __getitem__(self, name: str) -> Node:
        """Return the node of that name."""
        return self._nodes[name]

    def __iter__(self) -> Iterator[str]:
        """Node names in topological order."""
        return iter(self._nodes)

    def __len__(self) -> int:
        """Return the number of nodes."""
        return len(self._nodes)

    @property
    def hosts(self) -> dict[str, tuple[str, ...]]:
        """Deployment name to the nodes that it hosts, in topological order."""
        hosts: dict[str, tuple[str, ...]] = {}
        for node in self.values():
            hosts[node.host] = (*hosts.get(node.host, ()), node.name)
        return hosts

    def subgraph(self, outputs: Iterable[str]) -> tuple[str, ...]:
        """Names of the outputs and of all nodes that they need, in topological order.

        Raises:
            UnknownOutputError: an output is not a node; the message lists those that are.

        """
        wanted: set[str] = set()
        waiting = list(outputs)
        while waiting:
            name = waiting.pop()
            if name not in self._nodes:
                raise UnknownOutputError(
                    f"unknown output {name!r}; this graph offers {', '.join(sorted(self))}",
                )
            if name not in wanted:
                wanted.add(name)
                waiting.extend(source for source in self[name].sources if source not in ROOTS)
        return tuple(name for name in self if name in wanted)

    def roots(self, outputs: Iterable[str]) -> frozenset[str]:
        """Names of the roots that the outputs need. Raises ``UnknownOutputError``."""
        names = self.subgraph(outputs)
        return frozenset(s for name in names for s in self[name].sources if s in ROOTS)

    def plan(self, outputs: Iterable[str]) -> tuple[Segment, ...]:
        """Cut the sub-graph of ``outputs`` into segments, in an order in which they can start.

        Nodes that share a host and follow each other go into one segment, so that a request
        makes as few hops as it can. A node's depth is the number of host changes on the longest
        way to it; grouping by host and depth never makes a cycle between segments.
        """
        outputs = tuple(outputs)
        names = self.subgraph(outputs)
        depth: dict[str, int] = {}
        groups: dict[tuple[int, str], list[str]] = {}
        for name in names:
            node = self[name]
            depth[name] = max(
                (
                    depth[source] + (self[source].host != node.host)
                    for source in node.sources
                    if source not in ROOTS
                ),
                default=0,
            )
            groups.setdefault((depth[name], node.host), []).append(name)
        consumed_by = {
            name: {other for other in names if name in self[other].sources} for name in names
        }
        segments: list[Segment] = []
        for (_, host), members in sorted(groups.items()):
            sources = [source for name in members for source in self[name].sources]
            imports = dict.fromkeys(s for s in sources if s not in ROOTS and s not in members)
            exports = tuple(
                name for name in members if name in outputs or consumed_by[name] - set(members)
            )
            needs_upload = any(source in ROOTS for source in sources)
            segments.append(Segment(host, tuple(members), tuple(imports), exports, needs_upload))
        return tuple(segments)


def raise_problems(problems: Iterable[Problem]) -> None:
    """Raise a ``ConfigError`` with a line for each problem of ``args``, if there is any."""
    lines = [str(problem.below(("args",))) for problem in problems]
    if lines:
        raise ConfigError("\n".join(lines))


def graph_problems(
    args: AppArgs,
    capabilities: Mapping[str, CapabilityType],
) -> Iterator[Problem]:
    """Yield everything that keeps ``args`` from being a graph; keys start below ``args``."""
    yield from _host_problems(args)
    for name, spec in args.graph.items():
        wanted = spec.capability or name
        if name in ROOTS or name in (INGRESS, JOBS):
            yield Problem(("graph", name), f"{name!r} is a reserved name; choose another")
        elif wanted not in capabilities:
            yield Problem(
                ("graph", name, *(["capability"] if spec.capability else [])),
                f"no installed package offers the capability {wanted!r}; "
                f"{one_of(wanted, sorted(capabilities))}",
            )
        yield from _edge_problems(name, args, capabilities)
    try:
        _topological_order(args.graph)
    except CycleError as error:
        circle = error.args[1]
        yield Problem(
            ("graph", circle[1], "needs"),
            f"expected no circle, got {' → '.join(circle)}: each needs the one before it",
        )


def deployment_names(args: AppArgs) -> dict[str, tuple[str, ...]]:
    """Every deployment, the ingress first, and the nodes that each hosts, in the file's order."""
    hosts = _hosts_of(args)
    names: dict[str, tuple[str, ...]] = {INGRESS: ()}
    if args.jobs is not None:
        names[JOBS] = ()
    for name in args.graph:
        host = hosts.get(name, name)
        names[host] = (*names.get(host, ()), name)
    return names


def _hosts_of(args: AppArgs) -> dict[str, str]:
    """Node name to host name, for the nodes that ``hosts`` mentions."""
    return {name: host for host, members in args.hosts.items() for name in members}


def _host_problems(args: AppArgs) -> Iterator[Problem]:
    hosts: dict[str, str] = {}
    for host, members in args.hosts.items():
        if host == JOBS:
            yield Problem(("hosts", host), f"{host!r} is a reserved name; choose another")
        if host in args.graph and members != (host,):
            yield Problem(
                ("hosts", host),
                "a host that holds several nodes can't have a node's name; choose another",
            )
        for i, name in enumerate(members):
            key = ("hosts", host, i)
            if name not in args.graph:
                yield Problem(
                    key, f"{name!r} is not a node of the graph; {one_of(name, args.graph)}"
                )
            elif name in hosts:
                yield Problem(
                    key,
                    f"expected each node in one host, got {name!r}, which is in "
                    f"{hosts[name]!r} already",
                )
            hosts.setdefault(name, host)


def _edge_problems(
    name: str,
    args: AppArgs,
    capabilities: Mapping[str, CapabilityType],
) -> Iterator[Problem]:
    """Yield sources of a node that there are not, or that do not fit its capability."""
    kinds = _capabilities_of(args.graph, capabilities)
    spec = args.graph[name]
    unknown = [i for i, source in enumerate(spec.needs) if source not in {*ROOTS, *args.graph}]
    for i in unknown:
        choice = one_of(spec.needs[i], [*ROOTS, *args.graph])
        yield Problem(("graph", name, "needs", i), f"unknown source {spec.needs[i]!r}; {choice}")
    if name not in kinds or any(s not in {*ROOTS, *kinds} for s in spec.needs):
        return
    if _match_sources(name, spec, kinds) is None:
        wanted = " and ".join(_with_givers(kind, kinds) for kind in kinds[name].inputs)
        given = _given_types(spec, kinds)
        got = ", ".join(f"{source} ({kind.__name__})" for source, kind in given.items())
        yield Problem(("graph", name, "needs"), f"expected {wanted}, got {got or 'nothing'}")


def _with_givers(wanted: type, kinds: Mapping[str, CapabilityType]) -> str:
    """Name a type, and the roots and nodes that give it."""
    given = {**ROOTS, **{name: kind.result for name, kind in kinds.items()}}
    givers = [name for name, kind in given.items() if issubclass(kind, wanted)]
    return f"{wanted.__name__} (from {' or '.join(givers) or 'no node of this graph'})"


def _capabilities_of(
    specs: Mapping[str, NodeSpec],
    capabilities: Mapping[str, CapabilityType],
) -> dict[str, CapabilityType]:
    """Node name to capability, for the nodes whose capability is installed."""
    wanted = {name: spec.capability or name for name, spec in specs.items()}
    return {name: capabilities[kind] for name, kind in wanted.items() if kind in capabilities}


def _topological_order(specs: Mapping[str, NodeSpec]) -> tuple[str, ...]:
    """Sort nodes behind what they need. Raises ``CycleError``."""
    needs = {name: [s for s in spec.needs if s in specs] for name, spec in specs.items()}
    return tuple(TopologicalSorter(needs).static_order())


def _given_types(spec: NodeSpec, kinds: Mapping[str, CapabilityType]) -> dict[str, type]:
    return {s: ROOTS[s] if s in ROOTS else kinds[s].result for s in spec.needs}


def _match_sources(
    name: str,
    spec: NodeSpec,
    kinds: Mapping[str, CapabilityType],
) -> tuple[str, ...] | None:
    """Sort ``needs`` into the order of the capability's inputs, by type; None if they don't fit."""
    expected = kinds[name].inputs
    given = _given_types(spec, kinds)
    sources: list[str] = []
    for wanted in expected:
        fitting = [s for s, kind in given.items() if issubclass(kind, wanted) and s not in sources]
        if len(fitting) == 1:
            sources.append(fitting[0])
    fits = len(sources) == len(expected) == len(spec.needs)
    return tuple(sources) if fits else None
