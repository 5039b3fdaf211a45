"""A checked file for people: deployments and nodes as a tree, and what memory they will take."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ray.serve.config import AutoscalingConfig
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table
from rich.tree import Tree

from deployments.runtime.models import ModelEntry, ModelStatus, ModelStore
from serve_app.cli.memory import JOBS_MB, STACK_MB, replica_mb
from serve_app.cluster_spec import is_loopback
from serve_app.config import ServeFile
from serve_app.graph import INGRESS, JOBS, Graph, Node, deployment_names
from serve_app.schema import Deployment, NodeTuning


@dataclass(frozen=True, slots=True)
class Model:
    """A model that the graph runs; ``status`` is the worst of it and of what it needs.

    ``variant`` is the full name where a variant of it is run, and ``made`` whether that is here.
    """

    entry: ModelEntry
    status: ModelStatus
    size_bytes: int | None
    variant: str | None = None
    made: bool = True

    @property
    def wanting(self) -> bool:
        """Whether it has to be fetched."""
        return self.status is not ModelStatus.INSTALLED

    @property
    def state(self) -> str:
        """Tell whether it is here, in Rich's markup."""
        if not self.wanting:
            return "[green]installed[/]" if self.made else "[yellow]to be made[/]"
        damaged = "damaged, " if self.status is ModelStatus.CORRUPT else ""
        if self.entry.licence.commercial_use:
            return f"[yellow]{damaged}to be fetched[/]"
        return f"[yellow]{damaged}to be fetched, needs your consent[/]"


@dataclass(frozen=True, slots=True)
class DeploymentPlan:
    """One deployment as the file has it: its entry, its nodes and how many replicas it gets."""

    name: str
    entry: Deployment
    nodes: tuple[Node, ...]
    replicas: tuple[int, int]

    @property
    def replicas_text(self) -> str:
        """``2``, or ``0-4`` where it scales by itself."""
        least, most = self.replicas
        return str(least) if least == most else f"{least}–{most}"


def models_of(plans: list[DeploymentPlan], store: ModelStore) -> dict[str, Model]:
    """Look up every model that is run; hashes files, and changes nothing."""
    models: dict[str, Model] = {}
    names = (node.model for plan in plans for node in plan.nodes if node.model is not None)
    for name in dict.fromkeys(names):
        entry = store.catalogue[name]
        states = [store.status(part) for part in (entry.name, *entry.needs)]
        bad = [state for state in states if state is not ModelStatus.INSTALLED]
        models[name] = Model(
            entry,
            bad[0] if bad else ModelStatus.INSTALLED,
            store.size_bytes(name),
            variant=None if name == entry.name else name,
            made=store.status(name) is ModelStatus.INSTALLED,
        )
    return models


def plan_of(file: ServeFile, graph: Graph) -> list[DeploymentPlan]:
    """List the deployments, the ingress first, in the order of the file."""
    entries = {entry.name: entry for entry in file.application.deployments}
    plans: list[DeploymentPlan] = []
    for name, nodes in deployment_names(file.args).items():
        entry = entries.get(name) or Deployment(name=name)
        members = tuple(graph[node] for node in nodes)
        plans.append(DeploymentPlan(name, entry, members, _replicas(entry)))
    return plans


def graph_tree(file: ServeFile, plans: list[DeploymentPlan], models: Mapping[str, Model]) -> Tree:
    """Show deployments, their nodes, and what each node needs and runs."""
    count = sum(len(plan.nodes) for plan in plans)
    tree = Tree(
        f"[bold]{escape(file.app_name)}[/] at http://{file.http_host}:{file.http_port}, "
        f"{count} nodes in {len(plans)} deployments",
        guide_style="dim",
    )
    cluster = file.cluster
    if is_loopback(cluster.address):
        tree.add(f"[dim]this machine alone: cluster.address is {escape(cluster.address)}[/]")
    else:
        tree.add(f"other machines join at {escape(cluster.address)}:{cluster.port}")
    for plan in plans:
        replicas = "replica" if plan.replicas == (1, 1) else "replicas"
        about = [f"{plan.replicas_text} {replicas}", *_placement(plan.entry)]
        branch = tree.add(f"[bold cyan]{escape(plan.name)}[/]  {escape(', '.join(about))}")
        if not plan.nodes:
            branch.add("[dim]HTTP only; its nodes are in the deployments below[/]")
        for node in plan.nodes:
            below = branch.add(f"{escape(node.name)} [dim]← {escape(', '.join(node.sources))}[/]")
            if node.model is None:
                continue
            model = models[node.model]
            below.add(f"model {escape(node.model)}, {megabytes(model.size_bytes)}, {model.state}")
            below.add(f"[dim]{_batching(plan, node)}[/]")
    return tree


def memory_table(plans: list[DeploymentPlan], models: Mapping[str, Model], *, jobs: bool) -> Table:
    """Estimate the memory of each deployment, of jobs where there are any, and of everything."""
    title = "Memory with every model installed, an estimate in MB"
    table = Table(box=SIMPLE_HEAD, title=title, title_justify="left")
    table.add_column("Deployment")
    for title in ("Replicas", "Each", "Together"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_row("Ray and Serve, on the head", "", "", _range(STACK_MB, STACK_MB))
    least_mb = most_mb = float(STACK_MB)
    if jobs:
        table.add_row(JOBS, "1", _range(JOBS_MB, JOBS_MB), _range(JOBS_MB, JOBS_MB))
        least_mb, most_mb = least_mb + JOBS_MB, most_mb + JOBS_MB
    for plan in plans:
        sizes = [models[node.model].size_bytes for node in plan.nodes if node.model]
        each = replica_mb(sizes, len(plan.nodes), serves_http=plan.name == INGRESS)
        least, most = (each * count for count in plan.replicas)
        least_mb, most_mb = least_mb + least, most_mb + most
        table.add_row(
            escape(plan.name), plan.replicas_text, _range(each, each), _range(least, most)
        )
    table.add_section()
    table.add_row("[bold]All[/]", "", "", f"[bold]{_range(least_mb, most_mb)}[/]")
    return table


def megabytes(size_bytes: int | None) -> str:
    """Write the size of a model's file."""
    return f"{size_bytes / 1e6:.0f} MB" if size_bytes else "of unknown size"


def _range(least: float, most: float) -> str:
    """Write an amount to the nearest ten: it is an estimate."""
    texts = dict.fromkeys(f"{round(value, -1):,.0f}" for value in (least, most))
    return "–".join(texts)


def _replicas(entry: Deployment) -> tuple[int, int]:
    scaling = entry.autoscaling_config
    if entry.num_replicas == "auto":
        given = scaling.model_dump(exclude_unset=True) if scaling else {}
        scaling = AutoscalingConfig.default().model_copy(update=given)
    if scaling is not None:
        return scaling.min_replicas, scaling.max_replicas
    count = entry.num_replicas if isinstance(entry.num_replicas, int) else 1
    return count, count


def _placement(entry: Deployment) -> Iterator[str]:
    """Say what a replica needs of a machine, and which machines it may run on."""
    options = entry.ray_actor_options
    yield f"{1 if options.num_cpus is None else options.num_cpus:g} CPU each"
    if options.num_gpus:
        yield f"{options.num_gpus:g} GPU each"
    if options.accelerator_type:
        yield f"accelerator {options.accelerator_type}"
    for name, amount in options.resources.items():
        yield f"{amount:g} {name} each"
    for name, value in (options.label_selector or {}).items():
        yield f"on nodes with {name}={value}"
    if options.fallback_strategy:
        yield "elsewhere when there is none"


def _batching(plan: DeploymentPlan, node: Node) -> str:
    tuning = (plan.entry.user_config or {}).get(node.name) or NodeTuning()
    wait_ms = tuning.batch_wait_timeout_s * 1000
    waiting = f"waits {wait_ms:g} ms for more" if wait_ms else "starts at once"
    at_once = tuning.max_concurrent_batches
    several = f", {at_once} at once" if at_once > 1 else ""
    return f"batches of up to {tuning.max_batch_size}{several}; an idle model {waiting}"
