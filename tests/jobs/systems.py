"""What the reliability tests run jobs on: one machine, or two in a network, and what dies there."""

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import psutil
import sqlalchemy as sa
import yaml

from deployments.runtime.models import default_cache_folder
from serve_app.stack import Stack
from tests.cluster.figures import say
from tests.cluster.lan import NETWORK, Machine, network
from tests.cluster.one_machine import OneMachine

DOOR = 8000

PHOTO = Path("serve_app/cli/sample.jpg").resolve()
"""A small picture, which jobs may name instead of sending it."""

GRAPH: dict[str, Any] = {
    "face_detection": {"needs": ["image"], "model": "blazeface_full_range"},
    "face_alignment": {"needs": ["image", "face_detection"]},
    "face_embedding": {"needs": ["face_alignment"], "model": "mobilefacenet"},
    "exif": {"needs": ["upload"]},
    "hash": {"needs": ["upload"]},
    "media_thumbnail": {"needs": ["upload"]},
    "hls_streaming": {"needs": ["video"]},
}

_REPLICA = "ray::ServeReplica:cl-ml-serve:{}"
_DEAD_TIMEOUT_S = 60.0

Victims = dict[str, tuple[int, Callable[[], object]]]
"""By kind: how often, beside the others, and how to kill one and what a person would do then."""


class System(Protocol):
    """Something that runs jobs; ``jobs`` is their folder, and beside it is that of outputs."""

    urls: Sequence[str]
    jobs: Path

    def victims(self) -> Victims:
        """What may die."""
        ...

    def processes(self) -> list[psutil.Process]:
        """All processes of the service."""
        ...

    def down(self) -> None:
        """End the service."""
        ...


def use_jobs(
    document: dict[str, Any],
    jobs_folder: Path,
    jobs: dict[str, Any] | None = None,
    mqtt: dict[str, Any] | None = None,
) -> None:
    """Change a document so that it has jobs, and nodes for the kinds that are ordered.

    Their retries are quick and many: a job of which six attempts die is none to wait for.
    """
    application = document["applications"][0]
    args = application["args"]
    args["graph"] = GRAPH
    args["hosts"] = {"ingress": [node for node in GRAPH if node != "hls_streaming"]}
    args["files"] = {"readable_folders": [str(PHOTO.parent)]}
    args["outputs"] = {"folder": str(jobs_folder.with_name("outputs"))}
    args["jobs"] = {
        "folder": str(jobs_folder),
        "max_attempts": 6,
        "retry_delay_s": 0.1,
        **(jobs or {}),
    }
    if mqtt is not None:
        args["events"] = {"mqtt": mqtt}
    names = {"ingress": 2, "hls_streaming": 1}
    application["deployments"] = [
        {"name": name, "num_replicas": count, "ray_actor_options": {"num_cpus": 0.1}}
        for name, count in names.items()
    ]


class JobsMachine(OneMachine):
    """One machine's stack with jobs."""

    def __init__(
        self,
        folder: Path,
        **settings: Any,  # noqa: ANN401 - of ``use_jobs``
    ) -> None:
        """Choose a port; nothing runs yet."""
        super().__init__(folder, folder)
        self.jobs = folder / "jobs"
        use_jobs(self.document, self.jobs, **settings)
        self.urls: Sequence[str] = [f"http://127.0.0.1:{self.document['http_options']['port']}"]

    def up(self, *arguments: str | Path) -> None:
        """Start it."""
        done = self.run("up", *(arguments or ("--config", self.file())))
        assert done.returncode == 0, done.stdout

    def database(self) -> sa.Engine:
        """Give an engine for the table of jobs, which keeps no connection."""
        file = self.jobs / "jobs.sqlite"
        return sa.create_engine(f"sqlite:///{file}", poolclass=sa.NullPool)

    def down(self) -> None:
        """End it; no process of it may be left."""
        mark = self.state.mark
        assert self.run("down").returncode == 0
        assert [] == mark.processes()

    def processes(self) -> list[psutil.Process]:
        """All processes of the stack."""
        return self.state.mark.processes()

    def replicas_of(self, deployment: str) -> list[psutil.Process]:
        """Find the processes of a deployment."""
        return titled(self.processes(), _REPLICA.format(deployment))

    def kill(self, deployment: str) -> None:
        """Kill one replica."""
        kill_one(self.processes, _REPLICA.format(deployment))

    def victims(self) -> Victims:
        """What may die: the processes of a stack, and the whole of it."""
        return {
            "ingress": (6, lambda: self.kill("ingress")),
            "hls_streaming": (3, lambda: self.kill("hls_streaming")),
            "job runner": (5, lambda: self.kill("jobs")),
            "controller": (1, lambda: kill_one(self.processes, "ray::ServeController")),
            "whole stack": (1, self._crash),
        }

    def _crash(self) -> None:
        kill_all(self.state.mark.processes)
        self.up("--last")


@dataclass
class JobsNetwork:
    """A head and a node, each with a door, whose jobs are in a folder that both see."""

    folder: Path
    head: Machine
    node: Machine

    def __post_init__(self) -> None:
        """Name the doors."""
        doors = (self.head, self.node)
        self.urls: Sequence[str] = [f"http://{machine.address}:{DOOR}" for machine in doors]
        self.jobs = self.folder / "jobs"

    def up(self, document: dict[str, Any]) -> None:
        """Start the head, and let the node join."""
        config = self.folder / "serve.yaml"
        config.write_text(yaml.safe_dump(document), encoding="utf-8")
        say(self.head.cl_serve("up", "--config", str(config), "--offline").stdout)
        self.join()

    def join(self) -> None:
        """Let the node join, for the first time or again."""
        token = Stack(self.head.state).token
        command = ("node", "join", self.head.address, "--token-file", str(token))
        say(self.node.cl_serve(*command).stdout)

    def down(self) -> None:
        """Let the node leave and the head end; no process may be left."""
        self.node.cl_serve("node", "leave", "--now")
        self.head.cl_serve("down")
        assert [] == self.head.pids() + self.node.pids()

    def processes(self) -> list[psutil.Process]:
        """All processes of both machines."""
        return [*self.head.processes_named(), *self.node.processes_named()]

    def victims(self) -> Victims:
        """What may die: processes of either machine, the node, and the head."""

        def kill(deployment: str) -> None:
            kill_one(self.processes, _REPLICA.format(deployment))

        return {
            "ingress": (4, lambda: kill("ingress")),
            "hls_streaming": (2, lambda: kill("hls_streaming")),
            "job runner": (4, lambda: kill("jobs")),
            "node": (4, self._crash_node),
            "head": (1, self._crash_head),
        }

    def _crash_node(self) -> None:
        self.node.lose_power()
        self.node.boot()
        self.join()

    def _crash_head(self) -> None:
        self.head.lose_power()
        self.head.boot()
        say(self.head.cl_serve("up", "--last", "--offline").stdout)


@contextmanager
def two_machines(folder: Path) -> Iterator[JobsNetwork]:
    """Make the two machines; both have the models."""
    with network(["head", "node"], folder) as (head, node):
        for machine in (head, node):
            models = machine.cache / "cl-ml-serve" / "models"
            models.parent.mkdir(parents=True)
            models.symlink_to(default_cache_folder())
        yield JobsNetwork(folder, head, node)


def network_document(folder: Path, jobs: dict[str, Any], mqtt: dict[str, Any]) -> dict[str, Any]:
    """Make the YAML of the two machines: an ingress and an encoder on each."""
    source = Path("tests/cluster/cluster.yaml").read_text(encoding="utf-8")
    document = yaml.safe_load(source)
    (door, *_) = document["applications"][0]["deployments"]
    jobs_folder = folder / "jobs"
    use_jobs(document, jobs_folder, {"files": str(jobs_folder / "files"), **jobs}, mqtt)
    document["applications"][0]["deployments"] = [door, {**door, "name": "hls_streaming"}]
    return document


BRIDGE = f"{NETWORK}.1"
"""The address of this machine for those of the network."""


def titled(processes: Iterable[psutil.Process], title: str) -> list[psutil.Process]:
    """Keep the processes whose title begins so."""
    found: list[psutil.Process] = []
    for process in processes:
        with contextlib.suppress(psutil.Error):
            line = " ".join(process.cmdline())
            if line == title or line.startswith((f"{title}.", f"{title} ")):
                found.append(process)
    return found


def kill_one(processes: Callable[[], Iterable[psutil.Process]], title: str) -> None:
    """Kill one process of that title, as soon as there is one."""
    deadline_s = time.monotonic() + _DEAD_TIMEOUT_S
    while True:
        for process in titled(processes(), title):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
                process.wait(_DEAD_TIMEOUT_S)
                return
        assert time.monotonic() < deadline_s, f"there is no {title}"
        time.sleep(0.1)


def kill_all(processes: Callable[[], Iterable[psutil.Process]]) -> None:
    """Kill processes until there is none."""
    while found := list(processes()):
        for process in found:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(found, timeout=_DEAD_TIMEOUT_S)


def encoders(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Keep those that are FFmpeg."""
    found: list[psutil.Process] = []
    for process in processes:
        with contextlib.suppress(psutil.Error):
            if process.name().startswith("ffmpeg"):
                found.append(process)
    return found
