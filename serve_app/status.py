"""What a stack is doing now: as its clients see it, as Serve says, and as its replicas count.

Serve calls a graph running while its HTTP door is shut, so the first thing is a request of our
own. The figures are those that Prometheus gets, summed over all machines since they started.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx2
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from deployments.runtime.errors import StackError
from serve_app.graph import deployment_names
from serve_app.redeploy import running_file
from serve_app.stack import RunningStack, Stack
from serve_app.stack.machines import ClusterMachine, machines_of
from serve_app.stack.ray_folder import session_folder

HTTP_TIMEOUT_S = 5.0
READY_TIMEOUT_S = 30.0

_PREFIX = "ray_cl_serve_"


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """One node of the graph: its state, and what it has done since its replicas started."""

    state: str
    detail: str = ""
    requests: int = 0
    failed: int = 0
    p50_ms: float | None = None
    p95_ms: float | None = None
    mean_batch: float | None = None


@dataclass(frozen=True, slots=True)
class DeploymentStatus:
    """One deployment: what Serve says of it, and the memory of its replicas."""

    status: str
    replicas: int
    wanted: int
    nodes: tuple[str, ...]
    memory_bytes: int
    message: str = ""


@dataclass(frozen=True, slots=True)
class Status:
    """All of a stack. ``problem`` is empty where its clients are answered."""

    url: str
    config: str
    revision: int
    problem: str
    deploying: bool
    deployments: Mapping[str, DeploymentStatus] = field(default_factory=dict)
    nodes: Mapping[str, NodeStatus] = field(default_factory=dict)
    machines: tuple[ClusterMachine, ...] = ()


def read_status(stack: Stack) -> Status:
    """Ask everybody who knows; whatever does not answer leaves its part empty.

    Raises:
        StackError: nothing runs on this machine.

    """
    state = stack.require_running()
    file = running_file(stack)
    problem = _problem(state)
    application: Mapping[str, Any] = {}
    machines: tuple[ClusterMachine, ...] = ()
    try:
        with state.serve_api() as api:
            application = api.application(state.app_name)
            machines = tuple(machines_of(api))
    except StackError as error:
        problem = problem or str(error)
    figures = Figures.scraped(state)
    revision = stack.history.latest()
    return Status(
        url=state.url,
        config=str(file.path),
        revision=revision.number if revision else 0,
        problem=problem,
        deploying=stack.deploying.exists(),
        deployments=_deployments(application, deployment_names(file.args), figures),
        nodes=_nodes(state, file.args.graph, figures),
        machines=machines,
    )


class Figures:
    """Samples of this project's metrics, summed over replicas and machines."""

    def __init__(self, samples: Iterable[Sample]) -> None:
        """Keep those that are ours."""
        self._samples = [sample for sample in samples if sample.name.startswith(_PREFIX)]

    @classmethod
    def scraped(cls, state: RunningStack) -> "Figures":
        """Read the metrics of every machine that can be reached."""
        samples: list[Sample] = []
        for target in _targets(state):
            try:
                text = httpx2.get(f"http://{target}/metrics", timeout=HTTP_TIMEOUT_S).text
            except httpx2.HTTPError:
                continue
            for family in text_string_to_metric_families(text):
                samples += family.samples
        return cls(samples)

    def total(self, name: str, **labels: str) -> float:
        """Sum a metric over everything that has these labels."""
        return sum(
            sample.value
            for sample in self._samples
            if sample.name == _PREFIX + name and labels.items() <= sample.labels.items()
        )

    def mean(self, name: str, **labels: str) -> float | None:
        """Give the mean of a histogram, None where it has counted nothing."""
        count = self.total(f"{name}_count", **labels)
        return self.total(f"{name}_sum", **labels) / count if count else None

    def quantile(self, name: str, quantile: float, **labels: str) -> float | None:
        """Estimate a quantile of a histogram as Prometheus does: linearly inside its bucket."""
        counts: dict[float, float] = defaultdict(float)
        for sample in self._samples:
            if sample.name == f"{_PREFIX}{name}_bucket" and labels.items() <= sample.labels.items():
                counts[float(sample.labels["le"])] += sample.value
        bounds = sorted(counts)
        if not bounds or not counts[bounds[-1]]:
            return None
        wanted = quantile * counts[bounds[-1]]
        for lower, upper in pairwise([0.0, *bounds]):
            below = counts.get(lower, 0.0)
            if counts[upper] >= wanted:
                if upper == float("inf"):
                    return lower
                return lower + (upper - lower) * (wanted - below) / (counts[upper] - below)
        return bounds[-1]


def _targets(state: RunningStack) -> list[str]:
    """``host:port`` of every machine's metrics, from the file that Ray keeps for Prometheus."""
    listed = session_folder(Path(state.folder)) / "prom_metrics_service_discovery.json"
    try:
        groups = json.loads(listed.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return [target for group in groups for target in group["targets"]]


def _problem(state: RunningStack) -> str:
    try:
        answer = httpx2.get(f"{state.url}/healthz", timeout=HTTP_TIMEOUT_S)
    except httpx2.HTTPError as error:
        return f"{state.url} does not answer: {error or type(error).__name__}"
    if answer.status_code != HTTPStatus.OK:
        return f"{state.url}/healthz answers {answer.status_code}: {answer.text.strip()}"
    return ""


def _deployments(
    application: Mapping[str, Any],
    hosts: Mapping[str, tuple[str, ...]],
    figures: Figures,
) -> dict[str, DeploymentStatus]:
    return {
        name: DeploymentStatus(
            status=_word(found),
            replicas=sum(replica["state"] == "RUNNING" for replica in found["replicas"]),
            wanted=found["target_num_replicas"],
            nodes=hosts.get(name, ()),
            memory_bytes=int(figures.total("memory_bytes", deployment=name)),
            message=found.get("message", ""),
        )
        for name, found in application.get("deployments", {}).items()
    }


def _word(deployment: Mapping[str, Any]) -> str:
    scaling = deployment.get("deployment_config", {}).get("autoscaling_config") or {}
    asleep = scaling.get("min_replicas") == 0 and not deployment["replicas"]
    return "idle" if asleep else str(deployment["status"]).lower()


def _nodes(state: RunningStack, names: Iterable[str], figures: Figures) -> dict[str, NodeStatus]:
    try:
        answer = httpx2.get(f"{state.url}/readyz", timeout=READY_TIMEOUT_S)
        health = answer.json()["nodes"]
    except (httpx2.HTTPError, ValueError, KeyError):
        health = {}

    def milliseconds(name: str, quantile: float) -> float | None:
        seconds = figures.quantile("latency_seconds", quantile, node=name)
        return None if seconds is None else seconds * 1000

    return {
        name: NodeStatus(
            state=health.get(name, {}).get("state", "unknown"),
            detail=health.get(name, {}).get("detail", ""),
            requests=int(figures.total("requests_total", node=name)),
            failed=int(figures.total("requests_total", node=name, outcome="failed")),
            p50_ms=milliseconds(name, 0.5),
            p95_ms=milliseconds(name, 0.95),
            mean_batch=figures.mean("batch_units", node=name),
        )
        for name in names
    }
