"""``build(args)``: from the YAML's ``args`` to a Serve application; the only place that binds.

``serve deploy``, ``cl-serve up`` and the tests all come through here. Everything that can be
known beforehand is checked before a deployment exists.
"""

from typing import Any

from ray import serve
from ray.serve import Application, Deployment

from deployments.runtime.capability import NodeSettings, installed_capabilities
from deployments.runtime.errors import ConfigError, UnknownModelError
from deployments.runtime.folders import AllowedFolders
from deployments.runtime.models import ModelStore
from deployments.runtime.onnx_session import PROVIDERS
from serve_app.config import AppArgs
from serve_app.graph import INGRESS, Graph, Node
from serve_app.host import Host
from serve_app.hosted import NodeWithSettings
from serve_app.http.ingress import Ingress
from serve_app.stores import Stores, open_stores

MAX_ONGOING_REQUESTS = 256
"""Of a replica, unless the YAML says otherwise. Serve's default of 5 would cap every batch; the
limit that protects the machine is ``limits.max_concurrent_requests`` at the ingress."""


def build_graph(args: AppArgs, models: ModelStore) -> Graph:
    """Build the graph and check its models and providers.

    Raises:
        ConfigError: see ``Graph``; also a model that the catalogue lacks or an unknown provider.

    """
    graph = Graph(args, installed_capabilities())
    for node in graph.values():
        key = f"args.graph.{node.name}"
        if node.spec.provider not in PROVIDERS:
            raise ConfigError(
                f"{key}.provider: unknown provider {node.spec.provider!r}; "
                f"expected one of {', '.join(PROVIDERS)}",
            )
        if node.model is None:
            continue
        if node.capability.default_model is None:
            raise ConfigError(f"{key}.model: {node.name} runs no model, got {node.model!r}")
        try:
            models.catalogue[node.model]
        except UnknownModelError as error:
            raise ConfigError(f"{key}.model: {error}") from error
    return graph


def node_settings(node: Node, args: AppArgs, stores: Stores) -> NodeSettings:
    """What a node's capability needs to know."""
    return NodeSettings(
        store=stores.models,
        files=AllowedFolders(args.files.readable_folders, args.files.writable_folders),
        outputs=stores.outputs,
        model=node.model,
        provider=node.spec.provider,
        num_threads=node.spec.num_threads,
    )


def build(args: AppArgs) -> Application:
    """Build the Serve application.

    Raises:
        ConfigError: ``args`` is wrong; the message names key, value and what was expected.

    """
    stores = open_stores(args)
    graph = build_graph(args, stores.models)
    hosts = graph.hosts
    local = hosts.pop(INGRESS, ())

    def deployment(name: str, cls: Any) -> Deployment:  # noqa: ANN401 - Serve wraps any class
        return serve.deployment(name=name, max_ongoing_requests=MAX_ONGOING_REQUESTS)(cls)

    def pick(names: tuple[str, ...]) -> list[NodeWithSettings]:
        return [(graph[name], node_settings(graph[name], args, stores)) for name in names]

    remote = {name: deployment(name, Host).bind(pick(members)) for name, members in hosts.items()}
    ingress = deployment(INGRESS, serve.ingress()(Ingress))
    return ingress.bind(graph, remote, pick(local), stores, args.limits)
