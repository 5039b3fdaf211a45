"""The configurations between the old and the new one, so that at each moment somebody answers.

Two things would leave a gap if Serve were given the new configuration at once:

- Of a deployment with one replica it ends the old one before the new one has started: requests
  wait, and if the new one never starts, nothing is left that serves. So such a deployment has a
  second replica for the time of the change.
- Ingress replicas of both versions run side by side, and each asks where its own version hosts a
  node. So a node that moves is hosted in both places until the last old ingress replica is gone.

docs/decisions/0010-redeploys.md has the figures.
"""

import copy
from collections.abc import Collection, Mapping
from typing import Any

from serve_app.config import ServeFile
from serve_app.graph import INGRESS, deployment_names

Document = dict[str, Any]

SURGE_REPLICAS = 2
"""At least as many replicas a deployment needs so that one is left while another is replaced."""


def steps(old: ServeFile, new: ServeFile, rolling: Collection[str]) -> list[Document]:
    """List what Serve is given, one after the other; the last one is the new configuration.

    Args:
        old: what runs.
        new: what is to run.
        rolling: the deployments of which this replaces replicas, as far as they have any.

    """
    before, after = _host_of(old), _host_of(new)
    moved = [name for name in before if name in after and before[name] != after[name]]
    if not moved:
        surged = _surged(old.raw, rolling)
        if surged == old.raw:
            return [new.raw]
        return [surged, _surged(new.raw, rolling), new.raw]
    both = [
        _with_nodes(old.raw, {name: after[name] for name in moved}, new.raw),
        _with_nodes(new.raw, {name: before[name] for name in moved}, old.raw),
    ]
    return [
        *(_surged(step, _deployments(step)) for step in (old.raw, *both, new.raw)),
        new.raw,
    ]


def _host_of(file: ServeFile) -> dict[str, str]:
    hosts = deployment_names(file.args)
    return {node: host for host, nodes in hosts.items() for node in nodes}


def _with_nodes(document: Document, places: Mapping[str, str], other: Document) -> Document:
    """Host nodes in a second place as well; resources of new deployments come from ``other``."""
    document = copy.deepcopy(document)
    application = document["applications"][0]
    extra: dict[str, list[str]] = {}
    for node, host in places.items():
        if host != INGRESS:  # whose replicas ask nobody else
            extra.setdefault(host, []).append(node)
    application["args"]["also_hosted"] = extra
    entries = application.setdefault("deployments", [])
    known = {entry["name"] for entry in entries}
    entries += [
        {key: value for key, value in entry.items() if key != "user_config"}
        for entry in other["applications"][0].get("deployments", [])
        if entry["name"] in extra and entry["name"] not in known
    ]
    return document


def _deployments(document: Document) -> set[str]:
    """Name every deployment of a document, those of ``also_hosted`` included."""
    args = document["applications"][0]["args"]
    hosts = args.get("hosts", {})
    hosted = {node for nodes in hosts.values() for node in nodes}
    return {INGRESS, *hosts, *(args["graph"].keys() - hosted), *args.get("also_hosted", ())}


def _surged(document: Document, names: Collection[str]) -> Document:
    """Give each of these deployments replicas enough to lose one."""
    document = copy.deepcopy(document)
    application = document["applications"][0]
    entries: dict[str, Document] = {
        entry["name"]: entry for entry in application.get("deployments", [])
    }
    for name in sorted(names):
        entry = entries.setdefault(name, {"name": name})
        if entry.get("max_replicas_per_node") == 1:
            continue  # one more would wait for one more machine
        if scaling := entry.get("autoscaling_config"):
            for key in ("min_replicas", "max_replicas"):
                scaling[key] = max(scaling.get(key) or 0, SURGE_REPLICAS)
        elif entry.get("num_replicas", 1) < SURGE_REPLICAS:
            entry["num_replicas"] = SURGE_REPLICAS
    application["deployments"] = list(entries.values())
    return document
