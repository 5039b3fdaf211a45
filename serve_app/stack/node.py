"""One node of a cluster: joins a head, leaves it drained, and comes back by itself.

A node is Ray with what the head's Serve places on it, and a small state file. Its supervisor starts
Ray again when it has died, and when the head has: a restarted head knows nobody, and the Ray of a
node would take a minute to give up on the one that it knew.

Run in the background as ``python -m serve_app.stack.node STATE-FOLDER`` by ``cl-serve node join``,
or in the foreground by ``cl-serve node join --foreground``.
"""

import contextlib
import json
import re
import shutil
import signal
import sys
import time
import uuid
from collections import Counter
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import psutil

from deployments.runtime.errors import StackError
from serve_app.stack.gcs import ask
from serve_app.stack.head import Head
from serve_app.stack.keep_alive import keep_alive, log_line, start_in_background
from serve_app.stack.processes import Mark, listener_on
from serve_app.stack.ray_folder import make_ray_folder
from serve_app.stack.ray_runtime import (
    Machine,
    RayPorts,
    choose_ports,
    start_worker,
)
from serve_app.stack.stack import Progress, default_state_folder

METRICS_PORT = 9464
"""Of ``cluster.metrics_port`` in the YAML, which a node does not see."""

DRAIN_TIMEOUT_S = 75.0
"""How long a node may take to hand over; the longest request of the default limits takes 60 s."""

PLACEMENT_TIMEOUT_S = 15.0
"""How long to wait for the first replica on a new node; where the YAML places none, none comes."""

POLL_S = 0.25

NODE_LABEL = "node"
"""The label by which a node finds itself among those that the head knows."""

_REPLICA = re.compile(r"ray::ServeReplica:[^:]+:(?P<deployment>[^\s.:]+)")
"""The title of a replica's process."""

_IN_USE = ("ray::ServeReplica:", "ray::ProxyActor", "ray::HAProxyManager")
"""Titles of what serves requests."""


@dataclass(frozen=True, slots=True)
class JoinedNode:
    """What a node is part of, and how its processes are known."""

    stack_id: str
    folder: str
    head: str
    address: str
    role: str
    ports: dict[str, int]
    token: str
    leaving: bool = False

    @property
    def mark(self) -> Mark:
        """What tells its processes from others."""
        return Mark(self.stack_id, Path(self.folder))

    @property
    def machine(self) -> Machine:
        """How Ray is started here."""
        labels = {"role": self.role, NODE_LABEL: self.stack_id}
        ports = RayPorts(**self.ports)
        return Machine(self.mark, self.address, ports, Path(self.token), labels)

    def replicas(self) -> dict[str, int]:
        """Count the replicas that run here, by deployment."""
        found = [_REPLICA.match(title) for title in _titles(self.mark)]
        return dict(Counter(title["deployment"] for title in found if title))


class Node:
    """The node whose state is kept in ``folder``."""

    ground = ("raylet",)

    def __init__(self, folder: Path | None = None) -> None:
        """Name the node; nothing is read or started yet."""
        self.folder = folder or default_state_folder()
        self.token = self.folder / "node-token"
        self._state = self.folder / "node.json"
        self._head_was_gone = False

    def state(self) -> JoinedNode | None:
        """Return what the state file says, whether or not it still runs."""
        try:
            return JoinedNode(**json.loads(self._state.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def running(self) -> JoinedNode | None:
        """Return the node that runs, or None. A state file without processes is removed."""
        state = self.state()
        if state is not None and not state.mark.processes():
            self._state.unlink(missing_ok=True)
            return None
        return state

    def keep_token(self, secret: str) -> None:
        """Keep the cluster's secret, for this machine's user alone. Raises ``StackError``."""
        if not secret.isalnum():
            raise StackError(
                "this is no secret of a cluster; `cl-serve node token` on the head shows it",
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        self.token.unlink(missing_ok=True)
        self.token.touch(mode=0o600)
        self.token.write_text(secret, encoding="ascii")

    def join(self, head: Head, role: str, address: str | None, progress: Progress) -> JoinedNode:
        """Join a cluster with the secret that is kept; return when the head knows this machine.

        On any failure, and when interrupted, what was started is ended again.

        Args:
            head: where the cluster's head listens.
            role: what ``label_selector`` in the head's YAML finds this machine by.
            address: of this machine; by default the one from which it speaks to the head.
            progress: is told each step.

        Raises:
            StackError: the head does not answer or refuses the secret, or Ray failed.

        """
        progress(f"Looking for {head}")
        head.require_listening()
        head.require_equal_versions(ask(str(head), self.token, "versions"))
        ports = asdict(choose_ports())
        if listener_on(METRICS_PORT) is None:
            ports["metrics"] = METRICS_PORT
        state = JoinedNode(
            stack_id=uuid.uuid4().hex,
            folder=str(make_ray_folder(self.folder)),
            head=str(head),
            address=head.own_address(address),
            role=role,
            ports=ports,
            token=str(self.token),
        )
        self._write(state)
        progress("Starting Ray")
        try:
            start_worker(state.machine, state.head)
        except BaseException:
            self._end(state)
            raise
        return state

    def leave(self, progress: Progress, *, drain: bool = True) -> int:
        """Leave the cluster; return how many processes were ended, 0 if this was no node.

        Other machines take over the replicas, and requests in flight are answered, before
        anything here ends; where the head is gone there is nobody to take over.
        """
        state = self.running()
        if state is None:
            return 0
        self._write(replace(state, leaving=True))  # so that its supervisor does not start it again
        if drain:
            try:
                _drain(state, progress)
            except StackError as error:
                progress(f"Leaving without a handover: {error}")
        return self._end(state)

    @property
    def mark(self) -> Mark:
        """What tells its processes from others."""
        return self._required().mark

    def is_wanted(self) -> bool:
        """Whether the node is to be part of its cluster."""
        state = self.state()
        return state is not None and not state.leaving

    def is_lost(self) -> bool:
        """Whether the head has been restarted: its port refused once, and is open again."""
        answer = Head.parse(self._required().head).probe()
        if answer == "refuses":
            self._head_was_gone = True
        return self._head_was_gone and answer == "listens"

    def restart(self, progress: Progress) -> None:
        """Join the same cluster again. Raises ``StackError``."""
        del progress
        state = self._required()
        head = Head.parse(state.head)
        head.require_listening()
        state.mark.end_processes(patience_s=0)
        make_ray_folder(self.folder)
        start_worker(state.machine, state.head)
        self._head_was_gone = False

    def supervise_in_foreground(self, progress: Progress) -> None:
        """Keep the node alive until somebody lets it leave; SIGTERM and Ctrl-C do."""
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # what systemd sends
        try:
            keep_alive(self, progress)
        except KeyboardInterrupt:
            self.leave(progress)

    def wait_for_replicas(self) -> JoinedNode:
        """Return when the head has placed something here, or not for a while."""
        state = self._required()
        deadline_s = time.monotonic() + PLACEMENT_TIMEOUT_S
        while not state.replicas() and time.monotonic() < deadline_s:
            time.sleep(POLL_S)
        return state

    def start_supervisor(self) -> None:
        """Do the same in the background."""
        start_in_background("serve_app.stack.node", self.folder, self.mark)

    def _required(self) -> JoinedNode:
        state = self.state()
        if state is None:
            raise StackError("this machine is not part of a cluster")
        return state

    def _write(self, state: JoinedNode) -> None:
        part = self._state.with_suffix(".part")
        part.write_text(json.dumps(asdict(state)), encoding="utf-8")
        part.replace(self._state)

    def _end(self, state: JoinedNode) -> int:
        self._state.unlink(missing_ok=True)
        ended = state.mark.end_processes()
        shutil.rmtree(state.folder, ignore_errors=True)
        return ended


def _drain(state: JoinedNode, progress: Progress) -> None:
    """Let Serve move what runs here elsewhere; return when nothing is left, or it takes too long.

    Raises:
        StackError: the head does not answer, or it took too long.

    """
    progress("Handing over to the other machines")
    Head.parse(state.head).require_listening()
    ask(state.head, Path(state.token), "drain", state.stack_id)
    deadline_s = time.monotonic() + DRAIN_TIMEOUT_S
    while left := [title for title in _titles(state.mark) if title.startswith(_IN_USE)]:
        if time.monotonic() > deadline_s:
            raise StackError(f"{len(left)} processes are still in use after {DRAIN_TIMEOUT_S:g} s")
        time.sleep(POLL_S)


def _titles(mark: Mark) -> list[str]:
    """Return the titles of the processes of a machine's Ray; its workers say what they do."""
    found: list[str] = []
    for process in mark.processes():
        with contextlib.suppress(psutil.Error):
            found.append(" ".join(process.cmdline()).strip())
    return found


if __name__ == "__main__":
    keep_alive(Node(Path(sys.argv[1])), log_line)
