"""Trying a new version out before the running one is touched.

A trial is one more replica, outside of Serve and without requests: it starts where the new
version would, loads its models and tests itself. What fails there would have failed after the
running replicas were gone: a node whose model is missing starts, and then answers 503.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayError

from serve_app.calls import NodeHealth
from serve_app.host import Host
from serve_app.hosted import NodeWithSettings

PLACE_TIMEOUT_S = 60.0
"""How long a trial may wait for a machine with room and load its models; a Pi takes 30 s."""

TEST_TIMEOUT_S = 60.0

_PLACEMENT = ("num_gpus", "resources", "accelerator_type", "label_selector", "fallback_strategy")
"""What of ``ray_actor_options`` says where a replica runs. A trial takes no share of the CPUs,
which running replicas may have used up."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A deployment that is to be tried: its nodes, its tuning and where it is to run."""

    nodes: Sequence[NodeWithSettings]
    user_config: Mapping[str, Any] = field(default_factory=dict)
    ray_actor_options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a trial found: each node's health, the failure to start at all, or no room for it."""

    health: Mapping[str, NodeHealth] = field(default_factory=dict)
    traceback: str = ""
    placed: bool = True


class Trial:
    """A host that tests its nodes; Ray runs it as an actor."""

    def __init__(self, nodes: Sequence[NodeWithSettings], user_config: Mapping[str, Any]) -> None:
        """Load every node, as a replica does."""
        self._names = [node.name for node, _ in nodes]
        self._host = Host(nodes, user_config)

    async def test(self) -> dict[str, NodeHealth]:
        """Run every node's self-test."""
        found = await asyncio.gather(*(self._host.self_test(name) for name in self._names))
        return dict(zip(self._names, found, strict=True))


def try_out(candidate: Candidate) -> Verdict:
    """Run a trial in the cluster that this process is connected to, and end it."""
    options = {
        key: value for key, value in candidate.ray_actor_options.items() if key in _PLACEMENT
    }
    trial: Any = ray.remote(Trial)  # whose types know neither ``__ray_ready__`` nor ``ray.kill``
    actor = trial.options(num_cpus=0, **options).remote(
        list(candidate.nodes), candidate.user_config
    )
    try:
        started = actor.__ray_ready__.remote()
        if not ray.wait([started], timeout=PLACE_TIMEOUT_S)[0]:
            return Verdict(placed=False)
        ray.get(started)
        return Verdict(ray.get(actor.test.remote(), timeout=TEST_TIMEOUT_S))
    except RayError as error:
        return Verdict(traceback=str(error))
    finally:
        ray.kill(actor)
