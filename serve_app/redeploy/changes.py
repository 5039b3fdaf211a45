"""What a new configuration changes of the one that runs, by deployment.

Serve decides by three things: a changed ``args`` (or ``import_path``) starts every deployment
anew, changed resources the one that they belong to, and everything else is told to replicas that
go on serving. The first is Serve's own function, so that both always agree.
"""

import copy
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ray.serve._private.deploy_utils import get_app_code_version
from ray.serve.schema import ServeApplicationSchema

from deployments.runtime.errors import StackError
from serve_app.config import CLUSTER, ServeFile
from serve_app.graph import deployment_names

FIXED = (
    *("http_options", "proxy_location", "grpc_options", "controller_options", "tracing_config"),
    CLUSTER,
)
"""Keys that are read only when the stack starts."""

RESTARTING = (
    "ray_actor_options",
    "placement_group_bundles",
    "placement_group_strategy",
    "max_replicas_per_node",
    "gang_scheduling_config",
)
"""Keys of a deployment that replace its replicas; ``DeploymentVersion`` in Ray's source."""


class Effect(StrEnum):
    """What becomes of a deployment."""

    NEW = "new"
    REMOVED = "removed"
    ROLLING = "rolling restart"
    LIVE = "changed live"


@dataclass(frozen=True, slots=True)
class Change:
    """One deployment, or ``all`` of them, and the keys that change it: ``key: old → new``."""

    deployment: str
    effect: Effect
    keys: tuple[str, ...]


def compare(old: ServeFile, new: ServeFile) -> tuple[Change, ...]:
    """List what changes, in the order of the graph; empty where nothing does.

    Raises:
        StackError: something changes that takes ``cl-serve down`` and ``up``.

    """
    _require_same_ground(old, new)
    before, after = _application(old), _application(new)
    everything = get_app_code_version(_schema(before)) != get_app_code_version(_schema(after))
    old_hosts, new_hosts = deployment_names(old.args), deployment_names(new.args)
    old_entries, new_entries = _entries(before), _entries(after)
    changes: list[Change] = []
    shared = tuple(
        _differences(
            {k: v for k, v in old.raw.items() if k != "applications"},
            {k: v for k, v in new.raw.items() if k != "applications"},
        ),
    )
    if shared:
        changes.append(Change("all", Effect.LIVE, shared))
    of_graph = _differences(before["args"], after["args"], "args")
    for name in {**new_hosts, **old_hosts}:
        nodes = {*old_hosts.get(name, ()), *new_hosts.get(name, ())}
        entry = old_entries.get(name, {}), new_entries.get(name, {})
        own = list(_differences(*entry))
        own += [key for key in of_graph if any(_is_about(key, node) for node in nodes)]
        if name not in old_hosts:
            changes.append(Change(name, Effect.NEW, tuple(own)))
        elif name not in new_hosts:
            changes.append(Change(name, Effect.REMOVED, ()))
        elif everything:
            changes.append(Change(name, Effect.ROLLING, tuple(own) or ("(args have changed)",)))
        elif any(entry[0].get(key) != entry[1].get(key) for key in RESTARTING):
            changes.append(Change(name, Effect.ROLLING, tuple(own)))
        elif own:
            changes.append(Change(name, Effect.LIVE, tuple(own)))
    return tuple(changes)


def _require_same_ground(old: ServeFile, new: ServeFile) -> None:
    fixed = [key for key in FIXED if old.document.get(key) != new.document.get(key)]
    if old.app_name != new.app_name:
        fixed.append("applications[0].name")
    if fixed:
        raise StackError(
            f"{', '.join(fixed)}: read only when the stack starts, so this change takes "
            f"`cl-serve down` and `cl-serve up --config {new.path}`",
        )


def _application(file: ServeFile) -> dict[str, Any]:
    return file.raw["applications"][0]


def _schema(application: dict[str, Any]) -> ServeApplicationSchema:
    # Some of Serve's validators change what they are given.
    return ServeApplicationSchema.model_validate(copy.deepcopy(application))


def _entries(application: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {entry["name"]: entry for entry in application.get("deployments", [])}


def _is_about(difference: str, node: str) -> bool:
    return difference.startswith((f"args.graph.{node}:", f"args.graph.{node}."))


def _differences(old: Any, new: Any, key: str = "") -> list[str]:  # noqa: ANN401 - any YAML value
    """Name every key that differs, with both values."""
    return [
        f"{where}: {_shown(was)} → {_shown(becomes)}"
        for where, was, becomes in _walk(old, new, key)
    ]


_ABSENT = object()


def _walk(old: Any, new: Any, key: str) -> Iterator[tuple[str, Any, Any]]:  # noqa: ANN401 - any YAML value
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in {**old, **new}:
            below = f"{key}.{name}" if key else str(name)
            yield from _walk(old.get(name, _ABSENT), new.get(name, _ABSENT), below)
    elif old is _ABSENT or new is _ABSENT or old != new:
        yield key, old, new


def _shown(value: Any) -> str:  # noqa: ANN401 - any YAML value
    return "(nothing)" if value is _ABSENT else json.dumps(value, ensure_ascii=False)
