"""One stack of this machine: up, down, and what runs.

A stack is Ray with everything it starts, the Serve application from one YAML file, and a small
state file that says where it listens. Its processes are known by a marker in their environment,
so a state file that outlived a power cut is recognised as stale.
"""

import json
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx2

from deployments.runtime.errors import StackError
from serve_app.config import ServeFile
from serve_app.stack.processes import Mark, listener_on
from serve_app.stack.ray_runtime import (
    free_ports,
    start_head,
    token_environment,
    write_token,
)

MIN_FREE_BYTES = 512 * 2**20
"""Ray refuses work on a full disk with messages that name everything but the disk."""

DEPLOY_TIMEOUT_S = 180.0
"""Two x86-64 cores need about 15 s; slower machines get twelve times that."""

POLL_S = 0.25

Progress = Callable[[str], None]
"""Is told each step as it begins."""


@dataclass(frozen=True, slots=True)
class RunningStack:
    """Where a stack listens, what it runs, and how its processes are known."""

    stack_id: str
    folder: str
    url: str
    dashboard_url: str
    ray_address: str
    app_name: str
    config: str
    token: str

    @property
    def ray_environment(self) -> dict[str, str]:
        """What a Ray client of the cluster needs in its environment."""
        return token_environment(Path(self.token))

    @property
    def mark(self) -> Mark:
        """What tells its processes from others."""
        return Mark(self.stack_id, Path(self.folder))


def default_state_folder() -> Path:
    """Folder of the state file: ``$XDG_STATE_HOME/cl-ml-serve``."""
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "cl-ml-serve"


class Stack:
    """The stack whose state is kept in ``folder``; another folder is another stack."""

    def __init__(self, folder: Path | None = None) -> None:
        """Name the stack; nothing is read or started yet."""
        self._folder = folder or default_state_folder()
        self._state = self._folder / "stack.json"
        self._token = self._folder / "ray-token"

    def running(self) -> RunningStack | None:
        """Return the stack that runs, or None. A state file without processes is removed."""
        try:
            state = RunningStack(**json.loads(self._state.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None
        if not state.mark.processes():
            self._state.unlink(missing_ok=True)
            return None
        return state

    def up(self, file: ServeFile, progress: Progress) -> RunningStack:
        """Start Ray and the graph of ``file``; return when every node is ready.

        On any failure, and when interrupted, what was started is ended again.

        Raises:
            StackError: a port is taken, the disk is full, Ray or a deployment failed.

        """
        holder = listener_on(file.http_port)
        if holder is not None:
            raise StackError(
                f"port {file.http_port} is taken by {holder}. Stop it, or choose another port: "
                f"`cl-serve up --port N`, or http_options.port in {file.path}",
            )
        folder = _ray_folder(self._folder)
        _require_free_space(folder)
        ports = free_ports()
        host = "127.0.0.1" if file.http_host in ("0.0.0.0", "::") else file.http_host  # noqa: S104 - compared, not bound
        state = RunningStack(
            stack_id=uuid.uuid4().hex,
            folder=str(folder),
            url=f"http://{host}:{file.http_port}",
            dashboard_url=f"http://127.0.0.1:{ports.dashboard}",
            ray_address=f"127.0.0.1:{ports.gcs}",
            app_name=file.app_name,
            config=str(file.path.resolve()),
            token=str(self._token),
        )
        self._folder.mkdir(parents=True, exist_ok=True)
        write_token(self._token)
        self._state.write_text(json.dumps(asdict(state)), encoding="utf-8")
        try:
            progress("Starting Ray")
            start_head(state.mark, ports, self._token)
            progress("Starting the graph")
            _deploy(state, file.raw)
            _wait_until_running(state)
            progress("Testing every node")
            _wait_until_ready(state)
        except StackError as error:
            self.down(keep_logs=True)
            raise StackError(f"{error}\nThe logs are in {folder}/session_latest/logs") from error
        except BaseException:
            self.down()
            raise
        return state

    def down(self, *, keep_logs: bool = False) -> int:
        """End every process of the stack; return how many there were, 0 if none ran."""
        state = self.running()
        if state is None:
            return 0
        ended = state.mark.end_processes()
        if not keep_logs:
            shutil.rmtree(state.folder, ignore_errors=True)
        self._state.unlink(missing_ok=True)
        return ended


def _ray_folder(state_folder: Path) -> Path:
    """Make an empty private folder for Ray, one per state folder.

    It lies in /tmp, since HAProxy's socket in it, below a folder of 56 letters for each node, may
    have a path of at most 97 bytes.
    """
    name = uuid.uuid5(uuid.NAMESPACE_URL, str(state_folder.resolve())).hex[:8]
    folder = Path(tempfile.gettempdir()) / f"cl-serve-{os.getuid()}-{name}"
    if folder.is_symlink() or (folder.exists() and folder.stat().st_uid != os.getuid()):
        raise StackError(f"{folder} belongs to somebody else; remove it, then try again")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    return folder


def _require_free_space(folder: Path) -> None:
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < MIN_FREE_BYTES:
        raise StackError(
            f"the disk with {folder} is full: {free_bytes / 2**20:.0f} MiB are free and "
            f"{MIN_FREE_BYTES / 2**20:.0f} MiB are needed; free some space, then try again",
        )


def _dashboard(state: RunningStack) -> httpx2.Client:
    secret = Path(state.token).read_text(encoding="ascii")
    headers = {"authorization": f"Bearer {secret}"}
    return httpx2.Client(base_url=state.dashboard_url, headers=headers, timeout=60)


def _deploy(state: RunningStack, raw: dict[str, Any]) -> None:
    with _dashboard(state) as dashboard:
        answer = dashboard.put("/api/serve/applications/", json=raw)
    if answer.is_error:
        raise StackError(f"Ray Serve refused the configuration: {answer.text.strip()}")


def _wait_until_running(state: RunningStack) -> None:
    deadline_s = time.monotonic() + DEPLOY_TIMEOUT_S
    status = "unknown"
    with _dashboard(state) as dashboard:
        while time.monotonic() < deadline_s:
            answer = dashboard.get("/api/serve/applications/")
            application = answer.json().get("applications", {}).get(state.app_name, {})
            status = application.get("status", "unknown")
            if status == "RUNNING":
                return
            if status in ("DEPLOY_FAILED", "UNHEALTHY"):
                raise StackError(f"the graph failed to start:\n{_why(application)}")
            time.sleep(POLL_S)
    raise StackError(f"the graph did not start within {DEPLOY_TIMEOUT_S:g} s (it is {status})")


def _why(application: dict[str, Any]) -> str:
    """What Serve says of a failed application: its own message, and each deployment's."""
    messages = [application.get("message", "")]
    for name, deployment in application.get("deployments", {}).items():
        if deployment.get("message"):
            messages.append(f"{name}: {deployment['message']}")
    return "\n".join(message for message in messages if message) or "(Serve gives no reason)"


def _wait_until_ready(state: RunningStack) -> None:
    deadline_s = time.monotonic() + DEPLOY_TIMEOUT_S
    last = "no answer"
    while time.monotonic() < deadline_s:
        try:
            answer = httpx2.get(f"{state.url}/readyz", timeout=30)
            if answer.status_code == HTTPStatus.OK:
                return
            last = answer.text
            nodes = answer.json().get("nodes", {})
        except (httpx2.HTTPError, ValueError) as error:
            last = str(error)
            nodes = {}
        # A node without its model stays so until somebody installs it; the rest can serve.
        if nodes and all(node["state"] in ("ready", "not_installed") for node in nodes.values()):
            return
        time.sleep(POLL_S)
    raise StackError(f"not every node became ready within {DEPLOY_TIMEOUT_S:g} s: {last}")
