"""A private PostgreSQL for a test, on a free port of this machine's loopback."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from serve_app.stack.ports import free_ports

_START_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = 30.0
_POLL_S = 0.05
_ROOTS_STAND_IN = "postgres"
"""PostgreSQL refuses to run as root; Debian's package brings this user."""


class Postgres:
    """A server that can be stopped, killed and started again; ``close`` removes its data."""

    def __init__(self, folder: Path, *, fsync: bool = False) -> None:
        """Make an empty database; ``start`` runs the server.

        Args:
            folder: for its log.
            fsync: whether a commit waits for the disk. Without, nothing is lost but by a machine
                that loses its power.

        """
        port = free_ports(1)[0]
        self.url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
        self._log = folder / "postgres.log"
        # Not in the test's folder, which nobody but its owner can enter.
        self._home = Path(tempfile.mkdtemp(prefix="cl-ml-serve-postgres-"))
        self._as_user: dict[str, Any] = {}
        if os.geteuid() == 0:
            user = pwd.getpwnam(_ROOTS_STAND_IN)
            os.chown(self._home, user.pw_uid, user.pw_gid)
            self._as_user = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        data = self._home / "data"
        words = "--username=postgres --auth=trust --encoding=UTF8 --no-locale --no-sync"
        with self._log.open("ab") as log:
            subprocess.run(
                [_program("initdb"), *words.split(), data],
                check=True,
                cwd=self._home,
                stdout=log,
                stderr=log,
                **self._as_user,
            )
        settings = {
            "port": port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "fsync": fsync,
        }
        self._command = [
            _program("postgres"),
            "-D",
            str(data),
            *(f"--{name}={value}" for name, value in settings.items()),
        ]
        self._process: subprocess.Popen[Any] | None = None

    def start(self) -> None:
        """Run it, and wait until it answers."""
        deadline_s = time.monotonic() + _START_TIMEOUT_S
        while not self._answers():
            assert time.monotonic() < deadline_s, f"PostgreSQL does not start: see {self._log}"
            # After SIGKILL it refuses to start until the last process of before has ended.
            if self._process is None or self._process.poll() is not None:
                with self._log.open("ab") as log:
                    self._process = subprocess.Popen(
                        self._command,
                        cwd=self._home,
                        stdout=log,
                        stderr=log,
                        **self._as_user,
                    )
            time.sleep(_POLL_S)

    def stop(self) -> None:
        """End it in order: connections are cut, what was committed is written."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(_STOP_TIMEOUT_S)
            self._process = None

    def kill(self) -> None:
        """End it with SIGKILL, if it runs."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def close(self) -> None:
        """End it, and remove its data."""
        self.stop()
        shutil.rmtree(self._home)

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url, connect_timeout=1).close()
        except psycopg.OperationalError:
            return False
        return True


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """Run a server; give the URL of its empty database."""
    server = Postgres(folder)
    try:
        server.start()
        yield server.url
    finally:
        server.close()


def _program(name: str) -> str:
    """Find a program of the newest version; Debian keeps them outside of ``PATH``."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: path.parent.name)
    search = os.pathsep.join([*map(str, reversed(folders)), os.environ["PATH"]])
    found = shutil.which(name, path=search)
    assert found is not None, f"{name} is not installed: sudo apt install postgresql"
    return found
