"""The supervisor of a head: starts Ray again when it has died, with the graph that ran last.

Ray itself restarts replicas, the controller and proxies. What it can't survive is the death of
its own ground: the GCS, whose loss ends every other part after a while, and the raylet.

Run in the background as ``python -m serve_app.stack.supervisor STATE-FOLDER`` by ``cl-serve up``,
or in the foreground by ``cl-serve up --foreground``.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from deployments.runtime.errors import StackError
from serve_app.stack.keep_alive import keep_alive, log_line, start_in_background
from serve_app.stack.processes import Mark
from serve_app.stack.stack import Progress, RunningStack, Stack, start_graph


@dataclass(frozen=True, slots=True)
class SupervisedStack:
    """A stack that runs, as ``keep_alive`` sees it."""

    stack: Stack
    state: RunningStack
    ground: tuple[str, ...] = ("gcs_server", "raylet")

    @property
    def mark(self) -> Mark:
        """What tells its processes from others."""
        return self.state.mark

    def is_wanted(self) -> bool:
        """Whether nobody has ended it with ``Stack.down``, or started another one since."""
        now = self.stack.state()
        return now is not None and now.stack_id == self.state.stack_id

    def is_lost(self) -> bool:
        """Whether it must be started again although its ground lives; a head never must."""
        return False

    def restart(self, progress: Progress) -> None:
        """End what is left of the stack and start its last healthy configuration.

        Raises:
            StackError: Ray or a deployment failed.

        """
        revision = self.stack.history.latest()
        if revision is None:
            raise StackError(f"{self.stack.folder} holds no configuration to start with")
        self.mark.end_processes(patience_s=0)
        start_graph(self.state, revision.for_serve, progress)


def start_supervisor(stack: Stack, state: RunningStack) -> None:
    """Start the supervisor of a stack in the background; ``Stack.down`` ends it."""
    start_in_background("serve_app.stack.supervisor", stack.folder, state.mark)


if __name__ == "__main__":
    named = Stack(Path(sys.argv[1]))
    found = named.state()
    if found is not None:
        keep_alive(SupervisedStack(named, found), log_line)
