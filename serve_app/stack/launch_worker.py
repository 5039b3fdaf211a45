"""What a raylet starts as a worker: has the fork server make one, and ends.

A Ray worker that is started afresh imports Ray and Serve, which takes two seconds of a core and
70 MB that it shares with nobody. One that is forked from a process that has imported them is there
at once, and shares most of that memory. This program runs for each of them, so it imports little
itself and is run by its path, without the package around it. The first one starts the server.

The worker gets all that this process was given: arguments, environment, folder, open files, the
process group that Ray ends it by, and what Linux kills first when memory is short.
"""

import fcntl
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

SERVER = Path(__file__).with_name("fork_server.py")

START_TIMEOUT_S = 60.0
"""Ray gives a worker as long to come up. A Raspberry Pi takes about 8 s for the imports."""


def main() -> None:
    """Have a worker forked, or be the worker where that fails."""
    try:
        fork(os.environ["CL_SERVE_FORK_SERVER"])
    except OSError as error:
        print(f"no worker was forked, see fork-server.log: {error}", file=sys.stderr)  # noqa: T201 - Ray's log
        setup = Path(sys.argv[1]).with_name("setup_worker.py")
        os.execv(sys.executable, [sys.executable, str(setup), *sys.argv[1:]])  # noqa: S606 - a shell has no use here


def fork(path: str) -> None:
    """Ask the server at ``path`` for a worker. Raises ``OSError`` where it makes none."""
    request = {
        "arguments": sys.argv[1:],
        "environment": dict(os.environ),
        "folder": str(Path.cwd()),
        "group": os.getpgrp(),
        "oom_score_adj": Path("/proc/self/oom_score_adj").read_text(encoding="ascii"),
    }
    with connected(path) as server:
        socket.send_fds(server, [b"\n"], [0, 1, 2])
        server.sendall(json.dumps(request).encode())
        server.shutdown(socket.SHUT_WR)
        if not server.recv(1):
            raise ConnectionError("the fork server has ended")


def connected(path: str) -> socket.socket:
    """Connect to the server, started by whichever worker is first."""
    with Path(f"{path}.lock").open("w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        server = socket.socket(socket.AF_UNIX)
        server.settimeout(START_TIMEOUT_S)
        try:
            server.connect(path)
        except OSError:  # there is none yet, or it has died and left its socket
            start(path)
            server.connect(path)
        return server


def start(path: str) -> None:
    """Start the server; its socket is open from the beginning, so nobody waits for the imports."""
    Path(path).unlink(missing_ok=True)
    with (
        socket.socket(socket.AF_UNIX) as listener,
        Path(path).with_suffix(".log").open("ab") as log,
    ):
        listener.bind(path)
        listener.listen(64)
        subprocess.Popen(
            [sys.executable, "-P", str(SERVER), str(listener.fileno())],
            pass_fds=[listener.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            process_group=0,  # or it would end with the first worker
        )


if __name__ == "__main__":
    main()
