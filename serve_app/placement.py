"""How many replicas a deployment has, where that follows from the machines: one on each.

Serve decides where a replica runs when it starts it, and leaves it there. A deployment with a fixed
number of replicas would therefore stay on the head that was started first, however many nodes join
later, and would wait for a node that has left. This policy counts the machines instead; with
``max_replicas_per_node: 1`` beside it, a node that joins gets a replica, and one that leaves takes
its own along.
"""

from typing import Any

from ray.serve.config import AutoscalingContext


class OnePerMachine:
    """An autoscaling policy for the YAML's ``autoscaling_config.policy``."""

    def __init__(self, roles: list[str] | None = None) -> None:
        """Count machines of these roles, or all of them where none is named."""
        self._roles = roles

    def __call__(self, context: AutoscalingContext) -> tuple[int, dict[str, Any]]:
        """Return the number of machines that stay, at least 1; Serve applies limits and delays."""
        del context
        # Here, as Serve pickles the class with all that it refers to.
        import ray  # noqa: PLC0415 - see above
        from ray._private.worker import global_worker  # noqa: PLC0415 - see above

        gcs: Any = global_worker.gcs_client  # pyright: ignore[reportAttributeAccessIssue] - set by Ray
        leaving = gcs.get_draining_nodes()
        machines = [
            node
            for node in ray.nodes()
            if node["Alive"]
            and node["NodeID"] not in leaving
            and (self._roles is None or node["Labels"].get("role") in self._roles)
        ]
        return max(1, len(machines)), {}
