"""One stack of this machine: up, down, what runs, and how it comes back.

A stack is Ray with everything it starts, the Serve application from one YAML file, and a small
state file that says where it listens. Its processes are known by a marker in their environment,
so a state file that outlived a power cut is recognised as stale.
"""

import json
import shutil
import time
import uuid
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2

from deployments.runtime.errors import StackError
from serve_app.settings import default_state_folder
from serve_app.stack.history import History
from serve_app.stack.processes import Mark, listener_on
from serve_app.stack.ray_folder import make_ray_folder, session_folder
from serve_app.stack.ray_runtime import (
    Machine,
    RayPorts,
    choose_ports,
    client_environment,
    is_loopback,
    start_head,
    write_token,
)
from serve_app.stack.serve_api import DEPLOY_TIMEOUT_S, POLL_S, Details, ServeApi

if TYPE_CHECKING:  # it imports Ray, which takes a second and 60 MB: too much for a supervisor
    from serve_app.config import ServeFile

HEAD_LABELS = {"role": "head"}

READY_STATES = ("ready", "idle", "not_installed")
"""Of a node: it answers, it sleeps by design, or its model waits for somebody to install it."""

Progress = Callable[[str], None]
"""Is told each step as it begins."""


@dataclass(frozen=True, slots=True)
class RunningStack:
    """Where a stack listens, what it runs, and how its processes are known.

    ``overrides`` are what the command line said differently from the file, as arguments of
    ``ServeFile.with_overrides``: they hold for the files that are deployed later, too.
    """

    stack_id: str
    folder: str
    url: str
    address: str
    ports: dict[str, int]
    app_name: str
    config: str
    token: str
    overrides: dict[str, Any]

    @property
    def mark(self) -> Mark:
        """What tells its processes from others."""
        return Mark(self.stack_id, Path(self.folder))

    @property
    def ray_address(self) -> str:
        """Where Ray clients and other machines find the cluster."""
        return f"{self.address}:{self.ports['gcs']}"

    @property
    def ray_environment(self) -> dict[str, str]:
        """What a Ray client of the cluster needs in its environment."""
        return client_environment(Path(self.token), self.address)

    @property
    def metrics_url(self) -> str:
        """Where this machine's metrics are, for Prometheus."""
        return f"http://{self.address}:{self.ports['metrics']}/metrics"

    @property
    def machine(self) -> Machine:
        """How Ray is started here."""
        ports = RayPorts(**self.ports)
        return Machine(self.mark, self.address, ports, Path(self.token), HEAD_LABELS)

    def serve_api(self) -> ServeApi:
        """Open Serve's declarative API."""
        return ServeApi(f"http://127.0.0.1:{self.ports['dashboard']}", Path(self.token))


class Stack:
    """The stack whose state is kept in ``folder``; another folder is another stack."""

    def __init__(self, folder: Path | None = None) -> None:
        """Name the stack; nothing is read or started yet."""
        self.folder = folder or default_state_folder()
        self.token = self.folder / "ray-token"
        self.history = History(self.folder / "history")
        self.deploying = self.folder / "deploying"
        """Exists while a deploy is under way; one that broke off has left it behind."""
        self._state = self.folder / "stack.json"

    def state(self) -> RunningStack | None:
        """Return what the state file says, whether or not it still runs."""
        try:
            return RunningStack(**json.loads(self._state.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def running(self) -> RunningStack | None:
        """Return the stack that runs, or None. A state file without processes is removed."""
        state = self.state()
        if state is not None and not state.mark.processes():
            self._state.unlink(missing_ok=True)
            return None
        return state

    def require_running(self) -> RunningStack:
        """Return the stack that runs. Raises ``StackError`` where none does."""
        state = self.running()
        if state is None:
            raise StackError("no graph runs on this machine; start one with `cl-serve up`")
        return state

    def up(
        self,
        file: "ServeFile",
        progress: Progress,
        overrides: Mapping[str, Any] | None = None,
    ) -> RunningStack:
        """Start Ray and the graph of ``file``; return when every node is ready.

        On any failure, and when interrupted, what was started is ended again.

        Args:
            file: what to start.
            progress: is told each step.
            overrides: those that ``file`` was made with; see ``RunningStack``.

        Raises:
            StackError: a port is taken, the disk is full, Ray or a deployment failed.

        """
        _require_free_port(file)
        folder = make_ray_folder(self.folder)
        host = "127.0.0.1" if file.http_host in ("0.0.0.0", "::") else file.http_host  # noqa: S104 - compared, not bound
        state = RunningStack(
            stack_id=uuid.uuid4().hex,
            folder=str(folder),
            url=f"http://{host}:{file.http_port}",
            address=file.cluster.address,
            ports=asdict(_ports(file)),
            app_name=file.app_name,
            config=str(file.path.resolve()),
            token=str(self.token),
            overrides=dict(overrides or {}),
        )
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self.token.exists():
            write_token(self.token)
        self._state.write_text(json.dumps(asdict(state)), encoding="utf-8")
        try:
            start_graph(state, file.raw, progress)
            progress("Testing every node")
            wait_until_ready(state)
        except StackError as error:
            self.down(keep_logs=True)
            raise StackError(f"{error}\nThe logs are in {session_folder(folder)}/logs") from error
        except BaseException:
            self.down()
            raise
        self.history.add(state.config, file.document)
        return state

    def down(self, *, keep_logs: bool = False) -> int:
        """End every process of the stack; return how many there were, 0 if none ran."""
        state = self.running()
        if state is None:
            return 0
        self.deploying.unlink(missing_ok=True)
        self._state.unlink(missing_ok=True)  # first: it tells a supervisor that this is wanted
        ended = state.mark.end_processes()
        if not keep_logs:
            shutil.rmtree(state.folder, ignore_errors=True)
        return ended


def start_graph(state: RunningStack, document: dict[str, Any], progress: Progress) -> None:
    """Start the head and give it a configuration; return when all its replicas run.

    Raises:
        StackError: Ray or a deployment failed.

    """
    progress("Starting Ray")
    start_head(state.machine)
    progress("Starting Serve")
    with state.serve_api() as api:
        api.put(document)
        progress("Building the graph")
        left = ["Starting the replicas"]

        def look(application: Details) -> None:
            if left and application.get("deployments"):  # Serve has built it
                progress(left.pop())

        api.wait_until_running(state.app_name, look)


def wait_until_ready(state: RunningStack, tolerated: Collection[str] = ()) -> None:
    """Return when every node has answered a self-test, or can't by choice.

    Args:
        state: where to ask.
        tolerated: nodes that need not, since they did not before either.

    Raises:
        StackError: one did not in time.

    """
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
        waiting = [name for name, node in nodes.items() if node["state"] not in READY_STATES]
        if nodes and not set(waiting).difference(tolerated):
            return
        time.sleep(POLL_S)
    raise StackError(f"not every node became ready within {DEPLOY_TIMEOUT_S:g} s: {last}")


def _require_free_port(file: "ServeFile") -> None:
    holder = listener_on(file.http_port)
    if holder is not None:
        raise StackError(
            f"port {file.http_port} is taken by {holder}. Stop it, or choose another port: "
            f"`cl-serve up --port N`, or http_options.port in {file.path}",
        )


def _ports(file: "ServeFile") -> RayPorts:
    """Choose the ports: what others need to know is what the file says, the rest are free ones."""
    chosen = asdict(choose_ports())
    if not is_loopback(file.cluster.address):
        chosen["gcs"] = file.cluster.port
    if listener_on(file.cluster.metrics_port) is None:
        chosen["metrics"] = file.cluster.metrics_port
    return RayPorts(**chosen)
