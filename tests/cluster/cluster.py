"""A cluster of several machines, and what the tests ask of it."""

import json
import sys
import time
from dataclasses import dataclass

import httpx2

from serve_app.stack import Stack
from serve_app.stack.node import METRICS_PORT
from tests.cluster.lan import Machine

WHOLE_TIMEOUT_S = 60.0
PORT = 8000

_MACHINES = """
import dataclasses, json, sys
from pathlib import Path
from serve_app.stack import Stack
from serve_app.stack.machines import machines_of
with Stack(Path(sys.argv[1])).require_running().serve_api() as api:
    print(json.dumps([dataclasses.asdict(machine) for machine in machines_of(api)]))
"""

_RESTART = """
import sys, time
from pathlib import Path
from serve_app.stack import Stack
stack = Stack(Path(sys.argv[1]))
state = stack.require_running()
with state.serve_api() as api:
    document = stack.history.latest().document
    for deployment in document["applications"][0]["deployments"]:
        if deployment["name"] == sys.argv[2]:
            deployment["ray_actor_options"]["num_cpus"] = 0.11
    api.put(document)
    time.sleep(2)
    api.wait_until_running(state.app_name)
"""


@dataclass(frozen=True)
class Cluster:
    """The machines, and what the tests ask of them."""

    head: Machine
    nodes: tuple[Machine, Machine]
    stranger: Machine

    @property
    def members(self) -> tuple[Machine, ...]:
        """The head and the nodes."""
        return (self.head, *self.nodes)

    def url(self, path: str, machine: Machine | None = None) -> str:
        """Return the address of a route at a machine's door, by default the head's."""
        return f"http://{(machine or self.head).address}:{PORT}{path}"

    def replicas(self) -> dict[str, dict[str, int]]:
        """Count the replicas on each living machine, by its name."""
        state = str(self.head.state)
        answer = self.head.run(sys.executable, "-c", _MACHINES, state, check=False).stdout
        try:
            machines = json.loads(answer.splitlines()[-1])
        except (ValueError, IndexError):  # the head is not up
            return {}
        return {m["name"]: m["replicas"] for m in machines if m["state"] == "alive"}

    def wait_until_whole(self, timeout_s: float = WHOLE_TIMEOUT_S) -> float:
        """Wait for a door and a detector on each machine; return how long that took in seconds."""
        expected = {machine.name: {"ingress": 1, "faces": 1} for machine in self.members}
        began_s = time.monotonic()
        found: dict[str, dict[str, int]] = {}
        while time.monotonic() - began_s < timeout_s:
            found = {
                name: {key: count for key, count in replicas.items() if key in ("ingress", "faces")}
                for name, replicas in self.replicas().items()
            }
            if found == expected:
                return time.monotonic() - began_s
            time.sleep(0.5)
        raise AssertionError(f"the cluster is not whole after {timeout_s:g} s: {found}")

    def machine_of(self, deployment: str) -> str:
        """Wait until a deployment of one replica runs somewhere; name the machine."""
        deadline_s = time.monotonic() + WHOLE_TIMEOUT_S
        while time.monotonic() < deadline_s:
            for name, found in self.replicas().items():
                if deployment in found:
                    return name
        raise AssertionError(f"{deployment} runs nowhere after {WHOLE_TIMEOUT_S:g} s")

    def restart_elsewhere(self, deployment: str) -> None:
        """Change a deployment so that its replica is replaced; return when it was."""
        self.head.run(sys.executable, "-c", _RESTART, str(self.head.state), deployment)

    def requests(self, deployment: str) -> dict[str, int]:
        """Count the requests that a deployment has answered on each machine, by its metrics."""
        found: dict[str, int] = {}
        for machine in self.members:
            text = httpx2.get(f"http://{machine.address}:{METRICS_PORT}/metrics", timeout=10).text
            found[machine.name] = sum(
                int(float(line.rsplit(" ", 1)[1]))
                for line in text.splitlines()
                if line.startswith("ray_serve_deployment_request_counter")
                and f'deployment="{deployment}"' in line
            )
        return found


def join(cluster: Cluster, node: Machine) -> str:
    """Let a machine join, with the secret of the head; return what the command said."""
    token = Stack(cluster.head.state).token
    role = "gpu" if node is cluster.nodes[1] else "pi"
    command = ("node", "join", cluster.head.address, "--role", role, "--token-file", str(token))
    return node.cl_serve(*command).stdout
