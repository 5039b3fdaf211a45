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

CapabilityType = type[Capability[Any, Any]]

INGRESS = "ingress"
"""The deployment that takes HTTP requests and handle calls; it may host nodes as well."""


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
                in two hosts, or a host that names an unknown node.

        """
        hosts = _hosts_of(args)
        kinds = {
            name: _capability_of(name, spec, capabilities) for name, spec in args.graph.items()
        }
        nodes: dict[str, Node] = {}
        for name in _topological_order(args.graph):
            spec = args.graph[name]
            sources = _match_sources(name, spec, kinds)
            nodes[name] = Node(name, kinds[name], sources, hosts.get(name, name), spec)
        self._nodes = nodes

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


def _hosts_of(args: AppArgs) -> dict[str, str]:
    """Node name to host name, for the nodes that ``hosts`` mentions."""
    hosts: dict[str, str] = {}
    for host, members in args.hosts.items():
        if host in args.graph and members != (host,):
            raise ConfigError(
                f"args.hosts.{host}: a host that holds several nodes can't have a node's name",
            )
        for name in members:
            if name not in args.graph:
                raise ConfigError(
                    f"args.hosts.{host}: {name!r} is not a node of args.graph; "
                    f"expected one of {', '.join(args.graph)}",
                )
            if name in hosts:
                raise ConfigError(f"args.hosts.{host}: node {name!r} is in {hosts[name]!r} already")
            hosts[name] = host
    return hosts


def _capability_of(
    name: str,
    spec: NodeSpec,
    capabilities: Mapping[str, CapabilityType],
) -> CapabilityType:
    wanted = spec.capability or name
    if name in ROOTS or name == INGRESS:
        raise ConfigError(f"args.graph.{name}: {name!r} is a reserved name; choose another")
    if wanted not in capabilities:
        raise ConfigError(
            f"args.graph.{name}: no installed package offers the capability {wanted!r}; "
            f"expected one of {', '.join(sorted(capabilities))}",
        )
    return capabilities[wanted]


def _topological_order(specs: Mapping[str, NodeSpec]) -> tuple[str, ...]:
    for name, spec in specs.items():
        for source in spec.needs:
            if source not in ROOTS and source not in specs:
                raise ConfigError(
                    f"args.graph.{name}.needs: unknown source {source!r}; "
                    f"expected one of {', '.join([*ROOTS, *specs])}",
                )
    sorter = TopologicalSorter(
        {name: [s for s in spec.needs if s not in ROOTS] for name, spec in specs.items()},
    )
    try:
        return tuple(sorter.static_order())
    except CycleError as error:
        cycle = " → ".join(error.args[1])
        raise ConfigError(f"args.graph: the nodes need each other in a circle: {cycle}") from error


def _match_sources(
    name: str,
    spec: NodeSpec,
    kinds: Mapping[str, CapabilityType],
) -> tuple[str, ...]:
    """Sort ``needs`` into the order of the capability's inputs, by type."""
    expected = kinds[name].inputs
    given = {s: ROOTS[s] if s in ROOTS else kinds[s].result for s in spec.needs}
    sources: list[str] = []
    for wanted in expected:
        fitting = [s for s, kind in given.items() if issubclass(kind, wanted) and s not in sources]
        if len(fitting) == 1:
            sources.append(fitting[0])
    if len(sources) != len(expected) or len(sources) != len(spec.needs):
        raise ConfigError(
            f"args.graph.{name}.needs: {name} takes "
            f"{' and '.join(kind.__name__ for kind in expected)}; got "
            f"{', '.join(f'{s} ({kind.__name__})' for s, kind in given.items()) or 'nothing'}",
        )
    return tuple(sources)
