"""Finding and ending exactly the processes that one stack started.

Every process of a stack inherits one environment variable with the stack's id: raylet, workers,
dashboard, HAProxy and whatever they start. So ``ray stop``, which ends every Ray on the machine
and has left HAProxy alive, is not needed.
"""

import contextlib
import os
import time

import psutil

MARKER = "CL_SERVE_STACK"
"""The environment variable that holds the stack's id."""

TERM_TIMEOUT_S = 8.0
"""How long processes get to end by themselves. Ray's own processes need 2 to 4 s."""


def marked_processes(stack_id: str) -> list[psutil.Process]:
    """All processes of the stack, this one left out."""
    return [
        process
        for process in psutil.process_iter()
        if process.pid != os.getpid() and _marker_of(process) == stack_id
    ]


def end_processes(stack_id: str) -> int:
    """End all processes of the stack, politely first; return how many there were.

    Those that a dying process leaves behind, or has just started, are found by looking again
    until none is left.
    """
    ended: set[int] = set()
    deadline_s = time.monotonic() + TERM_TIMEOUT_S
    while processes := marked_processes(stack_id):
        patience_s = deadline_s - time.monotonic()
        for process in processes:
            ended.add(process.pid)
            with contextlib.suppress(psutil.NoSuchProcess):
                if patience_s > 0:
                    process.terminate()
                else:
                    process.kill()
        psutil.wait_procs(processes, timeout=max(patience_s, 1.0))
    return len(ended)


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


def _marker_of(process: psutil.Process) -> str | None:
    # Another user's process, one that ended meanwhile and a zombie have no readable environment.
    with contextlib.suppress(psutil.Error, OSError):
        return process.environ().get(MARKER)
    return None
