"""``ray start``, without what nobody asks for here and with workers that are forked.

Ray has no options for this, so the commands of two of its processes are changed on their way.
Its release is pinned, and where a command is not what this expects, nothing starts.
"""

import functools
from pathlib import Path
from typing import Any

from ray._private import services
from ray._private.ray_constants import PROCESS_TYPE_DASHBOARD, PROCESS_TYPE_RAYLET
from ray._private.workers import setup_worker
from ray.scripts import scripts

from deployments.runtime.errors import StackError

DASHBOARD_MODULES = ("ServeHead", "StateHead")
"""Serve's REST API, and the list of machines with their logs. Each of the other eight is a process
of 20 to 30 MB."""

LAUNCHER = Path(__file__).with_name("launch_worker.py")

_WORKER_COMMAND = "--python_worker_command="
_SETUP = str(setup_worker.__file__)


def trimmed(command: list[str], process_type: str) -> list[str]:
    """Change the command of the dashboard or the raylet; return that of any other as it is.

    Raises:
        StackError: the raylet's command does not start workers as Ray 2.60 does.

    """
    if process_type == PROCESS_TYPE_DASHBOARD:
        return [*command, f"--modules-to-load={','.join(DASHBOARD_MODULES)}"]
    if process_type == PROCESS_TYPE_RAYLET:
        changed = [
            part.replace(_SETUP, str(LAUNCHER)) if part.startswith(_WORKER_COMMAND) else part
            for part in command
        ]
        if changed == command:
            raise StackError(f"expected the raylet to start workers with {_SETUP}: {command}")
        return changed
    return command


if __name__ == "__main__":
    start_ray_process = services.start_ray_process

    @functools.wraps(start_ray_process)
    def start_trimmed(command: list[str], process_type: str, *rest: Any, **options: Any) -> Any:  # noqa: ANN401 - Ray's own
        """Start a part of Ray."""
        return start_ray_process(trimmed(command, process_type), process_type, *rest, **options)

    services.start_ray_process = start_trimmed
    # 49 MB for drivers that are not in the cluster; it has no port without what it depends on.
    scripts.get_ray_client_dependency_error = lambda: "not used"  # pyright: ignore[reportPrivateImportUsage] - just explained
    scripts.main()
