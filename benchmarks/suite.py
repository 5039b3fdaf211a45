"""Which subjects are measured with which workloads and loads: the short suite and the full one."""

import os
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from benchmarks.layouts import ROOT
from benchmarks.load.run import Run, Timing
from benchmarks.subjects import peer
from benchmarks.subjects.bare import Bare
from benchmarks.subjects.graph import START_S, graph_service, one_core_service
from benchmarks.workloads import capabilities
from benchmarks.workloads.photos import PHOTOS
from benchmarks.workloads.workload import Workload

BARE = "bare processes"
PLAIN = "plain FastAPI"
TUNED = "tuned FastAPI"
LITSERVE = "LitServe"
BENTOML = "BentoML"
RAY = "Ray Serve, defaults"
OURS = "cl-ml-serve"
SEPARATE = "cl-ml-serve, a deployment per model"
ONE_CORE_PI = "cl-ml-serve on one core, serve.pi.yaml"
ONE_CORE = "cl-ml-serve on one core, serve.yaml"
STAND_INS = "cl-ml-serve, stand-ins"
"""The names of subjects, as reports have them."""

SEPARATE_FILE = ROOT / "config" / "serve.deployments.yaml"
PI_FILE = ROOT / "config" / "serve.pi.yaml"

CORES = len(os.sched_getaffinity(0))
_PEER_START_S = 6.0


class Subject(Protocol):
    """What runs, and can be measured."""

    def check(self, workload: Workload, title: str) -> Run | None:
        """Send the first request, and compare its answer with the bare one."""
        ...

    def measure(self, workload: Workload, timing: Timing) -> Run:
        """Measure it."""
        ...


@dataclass(frozen=True, slots=True)
class Load:
    """How a subject is asked.

    Attributes:
        title: what reports call it.
        clients: photos in work at once.
        of_bare: where it is not 0, requests come at this share of the rate that bare processes
            reach with the same workload, whether others are answered or not.
        handles: over Python handles in place of HTTP.
        pause_s: seconds of sleep before each photo, for bare processes.

    """

    title: str
    clients: int = 0
    of_bare: float = 0.0
    handles: bool = False
    pause_s: float = 0.0


def clients(count: int) -> Load:
    """Make a closed loop of a number of clients."""
    return Load("1 client" if count == 1 else f"{count} clients", count)


FIRST = Load("first request")
ONE, FEW, BUSY, MORE, MANY = (clients(count) for count in (1, 4, 8, 16, 64))
ONE_AFTER_SLEEP = Load("1 client, 2 ms of sleep before each", 1, pause_s=0.002)
"""What the machine takes from all who wait for a client, be there a service or not."""
ALL_CORES = Load("a process per core", CORES)
HANDLES = Load("8 clients, handles", 8, handles=True)
STEADY = Load("at half of bare's rate", of_bare=0.5)
CLOSED = (ONE, FEW, BUSY, MORE, MANY)


@dataclass(frozen=True, slots=True)
class Task:
    """A subject, how it is started, and all that is measured while it runs."""

    subject: str
    start: Callable[[], AbstractContextManager[Subject]]
    start_s: float
    measurements: tuple[tuple[str, Load], ...]

    def by_workload(self) -> dict[str, list[Load]]:
        """Group what is measured by the names of workloads."""
        found: dict[str, list[Load]] = {}
        for name, load in self.measurements:
            found.setdefault(name, []).append(load)
        return found


def short(config: Path) -> list[Task]:
    """What the numbers to reach are judged by, and no more."""
    peers = _each(("small", "large"), (BUSY,))
    return [
        _bare(config, ("small", "large")),
        *(_peer(name, config, peers) for name in _PEERS),
        _graph(OURS, config, _each(("small", "large"), (ONE, BUSY, MANY))),
        _graph(SEPARATE, SEPARATE_FILE, peers),
        _one_core(ONE_CORE_PI, PI_FILE),
    ]


def full(config: Path, with_stand_ins: Path) -> list[Task]:
    """Every workload, load and subject.

    Args:
        config: the graph's file.
        with_stand_ins: the same with stand-ins for models that can't be fetched everywhere.

    """
    sizes = ("small", "large")
    groups = tuple(name for name in PHOTOS if name not in sizes)
    everything = _each(sizes, (*CLOSED, STEADY)) + _each(groups, (BUSY,))
    return [
        _bare(config, tuple(PHOTOS)),
        *(_peer(name, config, everything) for name in _PEERS),
        _graph(OURS, config, everything + _each(sizes, (HANDLES,))),
        _graph(SEPARATE, SEPARATE_FILE, _each(sizes, CLOSED)),
        _one_core(ONE_CORE_PI, PI_FILE),
        _one_core(ONE_CORE, config),
        _graph(STAND_INS, with_stand_ins, _each(capabilities.NAMES, (ONE, BUSY))),
    ]


_PEERS = {
    PLAIN: peer.PLAIN_FASTAPI,
    TUNED: peer.TUNED_FASTAPI,
    LITSERVE: peer.LITSERVE,
    BENTOML: peer.BENTOML,
    RAY: peer.RAY_SERVE,
}


def _bare(config: Path, names: Iterable[str]) -> Task:
    loads = _each(names, (ALL_CORES,)) + _each(("small", "large"), (ONE, ONE_AFTER_SLEEP))
    return Task(BARE, lambda: nullcontext(Bare(config)), 0.0, loads)


def _peer(name: str, config: Path, loads: tuple[tuple[str, Load], ...]) -> Task:
    return Task(name, partial(peer.peer_service, _PEERS[name], config), _PEER_START_S, loads)


def _graph(name: str, config: Path, loads: tuple[tuple[str, Load], ...]) -> Task:
    return Task(name, partial(graph_service, config), START_S, loads)


def _one_core(name: str, config: Path) -> Task:
    return Task(name, partial(one_core_service, config), 2 * START_S, (("large", FEW),))


def _each(names: Iterable[str], loads: Iterable[Load]) -> tuple[tuple[str, Load], ...]:
    loads = tuple(loads)
    return tuple((name, load) for name in names for load in loads)
