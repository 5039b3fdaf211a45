"""Tunes a file for this machine: what of it can be measured here, in which order, on how much.

A deployment gets cores by its part of the CPU that a request takes, rounded up, so that a file with
a deployment for each model does not get as many processes as there are cores for each of them.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from deployments.runtime.errors import StackError
from deployments.runtime.types import Upload
from serve_app.app import check_graph
from serve_app.cli.graph_tree import DeploymentPlan, models_of, plan_of
from serve_app.cli.memory import replica_mb
from serve_app.cli.tune.bench import Bench, Pace, Steps, Trial, Work
from serve_app.cli.tune.choice import Goal
from serve_app.cli.tune.crew import Crew
from serve_app.cli.tune.edit import Change
from serve_app.cli.tune.settings import Reasons, Setting, candidates, changes, setting_of
from serve_app.config import ServeFile
from serve_app.graph import INGRESS
from serve_app.stores import open_models


@dataclass(frozen=True, slots=True)
class Machine:
    """What may be used: cores, and MB of memory for all replicas together."""

    cores: int
    memory_mb: float


@dataclass(slots=True)
class Tuned:
    """What came out for one deployment.

    Attributes:
        name: of the deployment.
        cost_ms: CPU that its nodes take of a request.
        old: what the file says.
        new: what is better, or the same.
        others: further settings that were measured, best first.
        reasons: why.
        trials: what was tried.

    """

    name: str
    cost_ms: float
    old: Setting
    new: Setting
    others: list[Setting] = field(default_factory=list)
    reasons: Reasons = field(default_factory=Reasons)
    trials: list[Trial] = field(default_factory=list)

    def changes(self, file: ServeFile) -> Iterator[Change]:
        """Yield what makes the new setting of the file's."""
        return changes(file, self.name, self.old, self.new, self.reasons)


class Tuner:
    """One file on this machine."""

    def __init__(self, file: ServeFile, upload: Upload, machine: Machine) -> None:
        """Look at the file; nothing is measured yet.

        Args:
            file: what to tune.
            upload: what every request brings: a photo and a text.
            machine: what may be used.

        Raises:
            ConfigError: the graph is wrong.

        """
        self._file, self._upload, self._machine = file, upload, machine
        store = open_models(file.args.models)
        self._graph = check_graph(file, store)
        self._plans = plan_of(file, self._graph)
        self._models = models_of(self._plans, store)
        self.left_out: dict[str, str] = {}
        """Nodes and deployments that stay as they are, and why."""
        self.outputs = tuple(self._measurable())
        """The nodes that are measured: those with a model."""
        self._nodes = self._graph.subgraph(self.outputs)
        self._tunable = tuple(plan for plan in self._plans if self._is_tunable(plan))

    def tune(self, goal: Goal, pace: Pace, steps: Steps) -> list[Tuned]:
        """Measure; return what came out for each deployment, the most expensive one first.

        Raises:
            StackError: nothing can be measured, the memory does not suffice, or a process died.
            ClServeError: a node failed.

        """
        if not self._tunable:
            why = "".join(f"\n  {name}: {reason}" for name, reason in self.left_out.items())
            raise StackError(f"{self._file.path}: nothing of it can be measured here{why}")
        with Crew(self._file, self._upload) as crew:
            steps.expect(1)
            steps.step("what a request costs")
            crew.load(self._nodes, Setting(1, 1, {}))
            everything = Work(self._nodes, *crew.results())
            works = [
                (plan, replace(everything, names=_own(plan, self._nodes))) for plan in self._tunable
            ]
            replicas = {plan.name: plan.replicas[1] for plan in self._plans}
            found: list[Tuned] = []
            for plan, work in sorted(works, key=lambda pair: -pair[1].total_ms):
                share = 1.0 if goal is Goal.LATENCY else work.total_ms / everything.total_ms
                bench = Bench(plan.name, crew, work, goal, pace, self._machine.cores, steps)
                tuned = self._tune_one(plan, bench, share, replicas)
                replicas[plan.name] = tuned.new.replicas
                found.append(tuned)
        return found

    def _tune_one(
        self,
        plan: DeploymentPlan,
        bench: Bench,
        share: float,
        replicas: Mapping[str, int],
    ) -> Tuned:
        """Tune a deployment that may use a share of the cores, beside the replicas of others."""
        old = setting_of(plan, _own(plan, self.outputs))
        scales = plan.replicas[0] != plan.replicas[1]
        if scales:  # its number is Serve's business; more than there are cores prove nothing
            old = replace(old, replicas=min(old.replicas, self._machine.cores))
        cores = max(1, math.ceil(share * self._machine.cores))
        others_mb = sum(
            self._each_mb(other) * replicas[other.name]
            for other in self._plans
            if other is not plan
        )
        new, others = bench.choose_setting(
            list(candidates(old, cores, scales=scales)),
            self._each_mb(plan),
            self._machine.memory_mb - others_mb,
        )
        if bench.goal is Goal.THROUGHPUT:  # alone, nobody's units share a batch
            new = bench.choose_batches(new)
        cost_ms = bench.work.total_ms
        return Tuned(plan.name, cost_ms, old, new, others, bench.reasons, bench.trials)

    def _measurable(self) -> Iterator[str]:
        for name, node in self._graph.items():
            if node.model is None:
                continue
            needed = [self._graph[other].model for other in self._graph.subgraph([name])]
            missing = [model for model in needed if model and self._models[model].wanting]
            if missing:
                self.left_out[name] = f"{', '.join(missing)} is not installed"
            elif "video" in self._graph.roots([name]):
                self.left_out[name] = "it needs a video; what is measured with is a photo"
            else:
                yield name

    def _is_tunable(self, plan: DeploymentPlan) -> bool:
        if not _own(plan, self.outputs):
            return False
        options = plan.entry.ray_actor_options
        elsewhere = (
            options.num_gpus
            or options.label_selector
            or options.resources
            or options.accelerator_type
        )
        if elsewhere:
            self.left_out[plan.name] = "it runs on a GPU, or on machines that the file chooses"
        return not elsewhere

    def _each_mb(self, plan: DeploymentPlan) -> float:
        """Estimate one replica, with those of its nodes that are not measured."""
        models = [self._models[node.model] for node in plan.nodes if node.model]
        sizes = [model.entry.usable_size_bytes for model in models if not model.wanting]
        return replica_mb(sizes, len(plan.nodes), serves_http=plan.name == INGRESS)


def _own(plan: DeploymentPlan, names: Sequence[str]) -> tuple[str, ...]:
    """Return those of some nodes that a deployment hosts."""
    members = {node.name for node in plan.nodes}
    return tuple(name for name in names if name in members)
