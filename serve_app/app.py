"""``build(args)``: from the YAML's ``args`` to a Serve application; the only place that binds.

``serve deploy``, ``cl-serve up`` and the tests all come through here. Everything that can be
known beforehand is checked before a deployment exists.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import Field
from ray import serve
from ray.serve import Application, Deployment

from deployments.runtime.capability import NodeSettings, installed_capabilities
from deployments.runtime.errors import ConfigError, ModelNotValidatedError, UnknownModelError
from deployments.runtime.folders import AllowedFolders
from deployments.runtime.models import ModelStore
from deployments.runtime.onnx_session import PROVIDERS
from serve_app.config import APPLICATION, AppArgs, ServeFile
from serve_app.graph import (
    INGRESS,
    JOBS,
    CapabilityType,
    Graph,
    Node,
    deployment_names,
    graph_problems,
    raise_problems,
)
from serve_app.host import Host
from serve_app.hosted import NodeWithSettings
from serve_app.http.ingress import Ingress
from serve_app.schema import MAX_ONGOING_REQUESTS
from serve_app.stores import Stores, open_stores
from serve_app.validation import Problem


def check_graph(file: ServeFile, models: ModelStore) -> Graph:
    """Check the graph of a file, its models, and what the file says of its deployments.

    Whatever the deployments would refuse when they start or are reconfigured is found here.

    Raises:
        ConfigError: with a line for every mistake that there is.

    """
    capabilities = installed_capabilities()
    args = file.args
    below_args = [
        *graph_problems(args, capabilities),
        *_node_problems(args, capabilities, models),
    ]
    wanted = {name: spec.capability or name for name, spec in args.graph.items()}
    params = {
        name: capabilities[kind].params for name, kind in wanted.items() if kind in capabilities
    }
    problems = [
        *(problem.below((*APPLICATION, "args")) for problem in below_args),
        *file.deployment_problems(deployment_names(args), params),
    ]
    if problems:
        raise file.error(problems)
    return Graph(args, capabilities)


def build_graph(args: AppArgs, models: ModelStore) -> Graph:
    """Build the graph and check its models and providers.

    Raises:
        ConfigError: see ``Graph``; also a model that the catalogue lacks or its capability can't
            use, or an unknown provider.

    """
    capabilities = installed_capabilities()
    raise_problems(
        [*graph_problems(args, capabilities), *_node_problems(args, capabilities, models)],
    )
    return Graph(args, capabilities)


def _node_problems(
    args: AppArgs,
    capabilities: Mapping[str, CapabilityType],
    models: ModelStore,
) -> Iterator[Problem]:
    """Yield wrong models and providers; keys start below ``args``."""
    for name, spec in args.graph.items():
        key = ("graph", name)
        if spec.provider not in PROVIDERS:
            choice = ", ".join(PROVIDERS)
            yield Problem((*key, "provider"), f"expected one of {choice}, got {spec.provider!r}")
        kind = capabilities.get(spec.capability or name)
        model = spec.model or (kind and kind.default_model)
        if kind is None or model is None:
            continue
        if kind.default_model is None:
            yield Problem((*key, "model"), f"{name} runs no model, got {model!r}")
            continue
        try:
            models.catalogue[model]
            kind(NodeSettings(models, model=model))  # refuses models that it can't use
            if not spec.allow_unvalidated:
                models.variants(model).require_validated(model)
        except (UnknownModelError, ModelNotValidatedError, ConfigError) as error:
            yield Problem((*key, "model"), str(error).removeprefix(f"{kind.name}: model: "))


def node_settings(node: Node, args: AppArgs, stores: Stores) -> NodeSettings:
    """What a node's capability needs to know."""
    return NodeSettings(
        store=stores.models,
        files=AllowedFolders(
            args.files.readable_folders,
            args.files.writable_folders,
            stores.files,
        ),
        outputs=stores.outputs,
        model=node.model,
        provider=node.spec.provider,
        num_threads=node.spec.num_threads,
        allow_unvalidated=node.spec.allow_unvalidated,
    )


NUM_CPUS = 0.1
"""That Ray reserves for a replica, unless the YAML says otherwise. Serve's default of 1 would leave
no room on two cores for a third deployment, nor for a second replica while one is replaced."""


HEALTH_CHECK_PERIOD_S = 2
"""After which a killed replica is noticed; requests wait for the successor of a single one. With
Serve's 10 s they waited for up to 12."""

HEALTH_CHECK_TIMEOUT_S = 10
"""Of three checks in a row before a replica counts as dead that lives and does not answer."""


HEAD_ONLY = {"node:__internal_head__": 0.001}
"""A resource that Ray gives the head alone: the table of jobs is on its disk."""


class BuildArgs(AppArgs):
    """The YAML's ``args``, and what a redeploy adds to them between two versions."""

    also_hosted: dict[str, tuple[str, ...]] = Field(
        default_factory=dict,
        description="Deployment name to nodes that it hosts for replicas of another version.",
    )


def build(args: BuildArgs) -> Application:
    """Build the Serve application.

    Raises:
        ConfigError: ``args`` is wrong; the message names key, value and what was expected.

    """
    stores = open_stores(args)
    graph = build_graph(args, stores.models)
    hosts = graph.hosts
    local = hosts.pop(INGRESS, ())
    for name, extra in args.also_hosted.items():
        members = {*hosts.get(name, ()), *extra}
        hosts[name] = tuple(node for node in graph if node in members)

    def deployment(name: str, cls: Any, **needed: float) -> Deployment:  # noqa: ANN401 - Serve wraps any class
        return serve.deployment(
            name=name,
            max_ongoing_requests=MAX_ONGOING_REQUESTS,
            health_check_period_s=HEALTH_CHECK_PERIOD_S,
            health_check_timeout_s=HEALTH_CHECK_TIMEOUT_S,
            ray_actor_options={"num_cpus": NUM_CPUS, "resources": needed},
        )(cls)

    def pick(names: tuple[str, ...]) -> list[NodeWithSettings]:
        return [(graph[name], node_settings(graph[name], args, stores)) for name in names]

    remote = {name: deployment(name, Host).bind(pick(members)) for name, members in hosts.items()}
    ingress = deployment(INGRESS, serve.ingress()(Ingress))
    jobs = None
    if args.jobs is not None:
        # DBOS takes 0.7 s to import, for which `cl-serve check` and others have no use.
        from serve_app.jobs.runner import JobRunner  # noqa: PLC0415 - just explained

        runner = deployment(JOBS, JobRunner, **HEAD_ONLY)
        jobs = runner.bind(args.jobs, args.events, tuple(graph))
    return ingress.bind(graph, remote, pick(local), stores, args, jobs=jobs)
