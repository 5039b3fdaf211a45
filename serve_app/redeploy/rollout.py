"""Giving Serve a new configuration step by step, or the old one again if it fails."""

from collections.abc import Collection
from typing import Any

import httpx2

from deployments.runtime.errors import StackError
from serve_app.config import ServeFile
from serve_app.redeploy.changes import Change, Effect
from serve_app.redeploy.steps import Document, steps
from serve_app.stack import Progress, RunningStack, Stack
from serve_app.stack.serve_api import Details, ServeApi
from serve_app.stack.stack import wait_until_ready

HEALTHY = ("ready", "idle")
"""States of a node that answers, or would once it is asked."""


def roll_out(
    stack: Stack,
    old: ServeFile,
    new: ServeFile,
    changes: Collection[Change],
    progress: Progress,
) -> None:
    """Make ``new`` what a stack serves; returns when every node of it is ready.

    Raises:
        StackError: it does not start; ``old`` is served again, or still.

    """
    state = stack.require_running()
    unwell = {name for name, node in node_health(state).items() if node["state"] not in HEALTHY}
    stack.deploying.touch()
    with state.serve_api() as api:
        rolling = {change.deployment for change in changes if change.effect is Effect.ROLLING}
        try:
            for document in steps(old, new, rolling & _awake(api.application(state.app_name))):
                _put(api, state, document, progress)
            progress("Testing every node")
            wait_until_ready(state, tolerated=unwell)
        except StackError as error:
            progress("That failed; putting the previous configuration back")
            _put(api, state, old.raw, progress)
            stack.deploying.unlink(missing_ok=True)
            raise StackError(f"{error}\nThe previous configuration serves on.") from error
    stack.deploying.unlink(missing_ok=True)


def node_health(state: RunningStack) -> dict[str, dict[str, Any]]:
    """What ``/readyz`` says of each node; empty where it does not answer."""
    try:
        return httpx2.get(f"{state.url}/readyz", timeout=30).json()["nodes"]
    except (httpx2.HTTPError, ValueError, KeyError):
        return {}


def _put(api: ServeApi, state: RunningStack, document: Document, progress: Progress) -> None:
    """Apply a configuration and wait until it is true."""

    def report(application: Details) -> None:
        moving = [
            f"{name} ({_replicas(deployment)})"
            for name, deployment in application.get("deployments", {}).items()
            if deployment["status"] != "HEALTHY"
        ]
        progress(f"Deploying {', '.join(moving)}" if moving else "Deploying")

    before = api.application(state.app_name).get("last_deployed_time_s", 0.0)
    api.put(document)
    api.wait_until_running(state.app_name, report, later_than_s=before)


def _replicas(deployment: dict[str, Any]) -> str:
    running = sum(replica["state"] == "RUNNING" for replica in deployment["replicas"])
    return f"{running} of {deployment['target_num_replicas']} replicas"


def _awake(application: Details) -> set[str]:
    """Which deployments have replicas; a sleeping one has none to lose."""
    return {
        name
        for name, deployment in application.get("deployments", {}).items()
        if deployment["target_num_replicas"] > 0
    }
