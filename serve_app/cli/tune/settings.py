"""How a deployment may be set up on a number of cores: processes, threads and batches.

``threads × worker threads × replicas`` is what runs at once. More of it than there are cores only
takes turns on them, so candidates use each core once, in every way that there is.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from serve_app.cli.graph_tree import DeploymentPlan
from serve_app.cli.tune.edit import Change
from serve_app.config import APPLICATION, ServeFile
from serve_app.schema import NodeTuning

BOOKED_CPUS = 0.1
"""What Ray books for the last worker thread of a replica in place of a whole core, as the shipped
files do: ``num_cpus`` is rounded up to threads, and all replicas must fit on the machine."""


@dataclass(frozen=True, slots=True)
class NodeSetting:
    """One node that runs a model: its keys of the YAML, by their names there."""

    num_threads: int
    max_batch_size: int
    max_concurrent_batches: int


@dataclass(frozen=True, slots=True)
class Setting:
    """One deployment: its processes, the worker threads of each, and its nodes with a model."""

    replicas: int
    worker_threads: int
    nodes: Mapping[str, NodeSetting]

    def __str__(self) -> str:
        """Say it for a table; what nodes have in common is said once."""
        threads = _together(node.num_threads for node in self.nodes.values())
        batches = _together(node.max_concurrent_batches for node in self.nodes.values())
        parts = [
            "1 process" if self.replicas == 1 else f"{self.replicas} processes",
            *([f"{self.worker_threads} workers"] if self.worker_threads > 1 else []),
            *([f"{threads} threads"] if threads != "1" else []),
            *([f"{batches} batches"] if batches != "1" else []),
        ]
        return " × ".join(parts)

    def with_batch(self, node: str, max_batch_size: int) -> "Setting":
        """Return the same with another batch size of one node."""
        changed = replace(self.nodes[node], max_batch_size=max_batch_size)
        return replace(self, nodes={**self.nodes, node: changed})


@dataclass(slots=True)
class Reasons:
    """Why a setting is better, and why a batch size is, by node."""

    setting: str = ""
    batches: dict[str, str] = field(default_factory=dict)


def setting_of(plan: DeploymentPlan, nodes: tuple[str, ...]) -> Setting:
    """Read what a file says of a deployment, and of those of its nodes that run a model.

    A deployment that scales by itself has as many replicas as it may at most.
    """
    tuning = plan.entry.user_config or {}
    specs = {node.name: node.spec for node in plan.nodes}
    return Setting(
        replicas=max(1, plan.replicas[1]),
        worker_threads=max(1, math.ceil(plan.entry.ray_actor_options.num_cpus or 0)),
        nodes={name: _node_setting(specs[name].num_threads, tuning.get(name)) for name in nodes},
    )


def candidates(current: Setting, cores: int, *, scales: bool) -> Iterator[Setting]:
    """Yield the present setting, and all others that use ``cores`` once; batch sizes stay.

    Args:
        current: what the file says.
        cores: how many this deployment may use, at least 1.
        scales: whether its number of replicas is Serve's own business, and stays.

    """
    yield current
    for replicas in (current.replicas,) if scales else _parts(cores):
        for threads in _parts(max(1, cores // replicas)):
            workers = max(1, cores // (replicas * threads))
            for batches in sorted({1, workers}):
                nodes = {
                    name: replace(node, num_threads=threads, max_concurrent_batches=batches)
                    for name, node in current.nodes.items()
                }
                candidate = Setting(replicas, workers, nodes)
                if candidate != current:
                    yield candidate


def changes(
    file: ServeFile,
    deployment: str,
    old: Setting,
    new: Setting,
    reasons: Reasons,
) -> Iterator[Change]:
    """Yield what makes ``new`` of a file that says ``old``.

    Args:
        file: the file.
        deployment: the deployment's name.
        old: what the file says.
        new: what it is to say.
        reasons: why.

    """
    names = [entry.name for entry in file.application.deployments]
    entry = (*APPLICATION, "deployments", len(names))
    why = reasons.setting
    found: list[Change] = []
    if deployment in names:
        entry = (*entry[:-1], names.index(deployment))
    if new.replicas != old.replicas:
        found.append(Change((*entry, "num_replicas"), new.replicas, why))
    if new.worker_threads != old.worker_threads:
        booked = round(new.worker_threads - 1 + BOOKED_CPUS, 1)
        found.append(Change((*entry, "ray_actor_options", "num_cpus"), booked, why))
    for name, node in new.nodes.items():
        before, tuning = old.nodes[name], (*entry, "user_config", name)
        if node.max_batch_size != before.max_batch_size:
            key = (*tuning, "max_batch_size")
            found.append(Change(key, node.max_batch_size, reasons.batches.get(name, "")))
        if node.max_concurrent_batches != before.max_concurrent_batches:
            key = (*tuning, "max_concurrent_batches")
            found.append(Change(key, node.max_concurrent_batches, why))
    if found and deployment not in names:
        yield Change((*entry, "name"), deployment)
    yield from found
    for name, node in new.nodes.items():
        if node.num_threads != old.nodes[name].num_threads:
            yield Change(
                (*APPLICATION, "args", "graph", name, "num_threads"), node.num_threads, why
            )


def _node_setting(num_threads: int, tuning: NodeTuning | None) -> NodeSetting:
    tuning = tuning or NodeTuning()
    return NodeSetting(num_threads, tuning.max_batch_size, tuning.max_concurrent_batches)


def _parts(cores: int) -> list[int]:
    """Powers of two up to a number of cores, and that number."""
    return sorted({2**power for power in range(cores.bit_length()) if 2**power <= cores} | {cores})


def _together(numbers: Iterator[int]) -> str:
    return "/".join(map(str, dict.fromkeys(numbers)))
