"""The machines of a cluster and what runs on each, as the head knows them."""

from collections import Counter
from dataclasses import dataclass

from serve_app.stack.serve_api import ServeApi


@dataclass(frozen=True, slots=True)
class ClusterMachine:
    """One machine: ``replicas`` counts those that run there by deployment."""

    name: str
    address: str
    role: str
    state: str
    replicas: dict[str, int]


def machines_of(api: ServeApi) -> list[ClusterMachine]:
    """List the head first, then the living nodes, then those that are dead and not back yet.

    Raises:
        StackError: the dashboard does not answer.

    """
    nodes = api.get("/api/v0/nodes", detail="1").json()["data"]["result"]["result"]
    running: dict[str, Counter[str]] = {}
    for application in api.details().get("applications", {}).values():
        for name, deployment in application.get("deployments", {}).items():
            for replica in deployment.get("replicas", ()):
                if replica["state"] == "RUNNING":
                    running.setdefault(replica["node_id"], Counter())[name] += 1
    nodes.sort(key=lambda node: (not node["is_head_node"], node["state"] != "ALIVE"))
    found: dict[str, ClusterMachine] = {}
    for node in nodes:
        # A node that came back is a new one for Ray; its former selves are of no interest.
        found.setdefault(
            node["node_ip"],
            ClusterMachine(
                node["node_name"],
                node["node_ip"],
                node["labels"].get("role", ""),
                node["state"].lower(),
                dict(running.get(node["node_id"], {})),
            ),
        )
    return list(found.values())
