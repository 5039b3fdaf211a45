"""Finding and ending exactly the processes that one stack started.

Every process of a stack inherits one environment variable with the stack's id, and writes a log
file in the stack's own folder. Both are looked at, since either can fail: Ray's workers
write their title over their environment, and a process that just starts has no log file yet. So
``ray stop``, which ends every Ray on the machine and has left HAProxy alive, is not needed.
"""

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

MARKER = "CL_SERVE_STACK"
"""The environment variable that holds the stack's id."""

TERM_TIMEOUT_S = 8.0
"""How long processes get to end by themselves before they are killed."""


@dataclass(frozen=True, slots=True)
class Mark:
    """What tells a stack's processes: the id in their environment, the folder of their logs."""

    stack_id: str
    folder: Path

    def processes(self) -> list[psutil.Process]:
        """All running processes of the stack, this one left out."""
        return [
            process
            for process in psutil.process_iter()
            if process.pid != os.getpid() and self._is_on(process)
        ]

    def end_processes(self, patience_s: float = TERM_TIMEOUT_S) -> int:
        """End all processes of the stack, politely first; return how many there were.

        Those that a dying process leaves behind, or has just started, are found by looking again
        until none is left.
        """
        ended: set[int] = set()
        deadline_s = time.monotonic() + patience_s
        while processes := self.processes():
            left_s = deadline_s - time.monotonic()
            for process in processes:
                ended.add(process.pid)
                with contextlib.suppress(psutil.NoSuchProcess):
                    if left_s > 0:
                        process.terminate()
                    else:
                        process.kill()
            psutil.wait_procs(processes, timeout=max(left_s, 1.0))
        return len(ended)

    def _is_on(self, process: psutil.Process) -> bool:
        # Another user's process and one that ended meanwhile can't be read; neither is ours.
        with contextlib.suppress(OSError, psutil.Error):
            # Not through psutil, which stops reading where a worker's title ends.
            environment = Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0")
            if f"{MARKER}={self.stack_id}".encode() in environment:
                return True
            # For writing: somebody may be reading the log.
            inside = f"{self.folder}{os.sep}"
            return any(
                file.path.startswith(inside) and getattr(file, "mode", "r") != "r"
                for file in process.open_files()
            )
        return False


def listener_on(port: int) -> str | None:
    """Say who listens on a TCP port of this machine, or None if nobody does.

    The answer names the program and its pid where the system lets this user see them.
    """
    for connection in psutil.net_connections(kind="tcp"):
        if connection.status != psutil.CONN_LISTEN or tuple(connection.laddr)[1:] != (port,):
            continue
        if connection.pid is None:
            return "a process of another user"
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(connection.pid)
            return f"{process.name()} (pid {process.pid}, user {process.username()})"
        return f"pid {connection.pid}"
    return None
