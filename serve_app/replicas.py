"""Which deployments sleep: those that may have no replica, and whether they have one.

Asked before nodes are tested, since a test of a sleeping node would wake it, and tests at short
intervals would keep it awake. Serve's public status has the number of replicas and not whether
none is meant to be; its details have both.
"""

from collections.abc import Mapping
from typing import Any

from ray import serve
from ray.serve.context import _get_global_client

from serve_app.metrics import in_replica

_FAILING = ("UNHEALTHY", "DEPLOY_FAILED")


def sleepers() -> dict[str, frozenset[str]]:
    """Name the deployments of this application that sleep or may, and their running replicas.

    Those that fail to start are left out: a test tells why. Asks Serve's controller, so not on
    the event loop. Empty outside of a replica.
    """
    if not in_replica():
        return {}
    client = _get_global_client()
    details = client.get_serve_details() if client else {}
    return sleepers_in(details, serve.get_replica_context().app_name)


def sleepers_in(details: Mapping[str, Any], app_name: str) -> dict[str, frozenset[str]]:
    """Find them in Serve's details of everything that it runs."""
    found: dict[str, frozenset[str]] = {}
    application = details.get("applications", {}).get(app_name, {})
    for name, deployment in application.get("deployments", {}).items():
        autoscaling = deployment["deployment_config"].get("autoscaling_config") or {}
        if autoscaling.get("min_replicas") == 0 and deployment["status"] not in _FAILING:
            found[name] = frozenset(
                replica["replica_id"]
                for replica in deployment["replicas"]
                if replica["state"] == "RUNNING"
            )
    return found
