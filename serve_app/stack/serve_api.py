"""Serve's declarative API of one stack: give it a configuration, ask what runs.

It is the dashboard's REST API, which listens on loopback and asks for the cluster's secret.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import httpx2

from deployments.runtime.errors import StackError

DEPLOY_TIMEOUT_S = 180.0
"""Two x86-64 cores need about 15 s; slower machines get twelve times that."""

POLL_S = 0.25

_APPLICATIONS = "/api/serve/applications/"

Details = dict[str, Any]
"""One application as Serve describes it: status, message, deployments with their replicas."""


class ServeApi:
    """A client of the API; use it as a context manager."""

    def __init__(self, url: str, token: Path) -> None:
        """Connect lazily; ``token`` is the file with the cluster's secret."""
        secret = token.read_text(encoding="ascii").strip()
        headers = {"authorization": f"Bearer {secret}"}
        self._http = httpx2.Client(base_url=url, headers=headers, timeout=60)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close the connections."""
        self._http.close()

    def get(self, path: str, **params: str) -> httpx2.Response:
        """Ask the dashboard something.

        Raises:
            StackError: it does not answer, or refuses.

        """
        try:
            answer = self._http.get(path, params=params)
        except httpx2.HTTPError as error:
            raise StackError(f"Ray's dashboard does not answer: {error}") from error
        if answer.is_error:
            raise StackError(f"Ray's dashboard refused {path}: {answer.text.strip()}")
        return answer

    def put(self, document: dict[str, Any]) -> None:
        """Give Serve a whole configuration; it begins to make it true.

        Raises:
            StackError: Serve refused it, or does not answer.

        """
        try:
            answer = self._http.put(_APPLICATIONS, json=document)
        except httpx2.HTTPError as error:
            raise StackError(f"Ray's dashboard does not answer: {error}") from error
        if answer.is_error:
            raise StackError(f"Ray Serve refused the configuration: {answer.text.strip()}")

    def details(self) -> dict[str, Any]:
        """Everything that Serve says of itself. Raises ``StackError``."""
        return self.get(_APPLICATIONS).json()

    def application(self, name: str) -> Details:
        """Describe one application; empty where it is not known yet. Raises ``StackError``."""
        return self.details().get("applications", {}).get(name, {})

    def wait_until_running(
        self,
        name: str,
        on_change: Callable[[Details], None] = lambda _: None,
        *,
        later_than_s: float = 0.0,
        timeout_s: float = DEPLOY_TIMEOUT_S,
    ) -> Details:
        """Return when every deployment of an application is what its configuration says.

        Args:
            name: the application's.
            on_change: is told what Serve says, whenever it was asked.
            later_than_s: ``last_deployed_time_s`` of the deployment before, whose state is not
                what is waited for.
            timeout_s: how long to wait.

        Raises:
            StackError: it failed, with the reason and the failing replica's traceback, or is
                not there in time.

        """
        deadline_s = time.monotonic() + timeout_s
        application: Details = {}
        while time.monotonic() < deadline_s:
            application = self.application(name)
            on_change(application)
            status = application.get("status", "unknown")
            is_new = application.get("last_deployed_time_s", 0.0) > later_than_s
            if status == "RUNNING" and is_new:
                return application
            if status in ("DEPLOY_FAILED", "UNHEALTHY") and is_new:
                raise StackError(f"the graph failed to start:\n{reason(application)}")
            time.sleep(POLL_S)
        raise StackError(
            f"the graph did not start within {timeout_s:g} s "
            f"(it is {application.get('status', 'unknown')}):\n{reason(application)}",
        )


def reason(application: Details) -> str:
    """What Serve says of an application: its own message, and each deployment's."""
    messages = [application.get("message", "")]
    for name, deployment in application.get("deployments", {}).items():
        if deployment.get("message"):
            messages.append(f"{name}: {deployment['message']}")
    return "\n".join(message for message in messages if message) or "(Serve gives no reason)"
