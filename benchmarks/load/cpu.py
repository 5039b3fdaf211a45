"""CPU time of a group of processes over a window, by process name.

A process's time is its own plus that of the children it has waited for. When a process dies
within the window its time therefore moves to its parent in the group and is not lost; only the
time of an orphan that somebody outside the group waits for is.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import psutil

Group = Callable[[], Iterable[psutil.Process]]
"""Finds the processes of a group as they are now."""


class CpuMeter:
    """Adds up what a group of processes uses between ``begin`` and ``end``."""

    def __init__(self, group: Group) -> None:
        """Look for the processes, which is slow, so that ``begin`` is quick."""
        self._group = group
        self._known = {process: name_of(process) for process in group()}
        self._before: dict[psutil.Process, float] = {}
        self._own_before: dict[psutil.Process, float] = {}
        self._busy_before_s = 0.0
        self._began_s = 0.0
        self.cpu_s: dict[str, float] = {}
        self.others_share = 0.0
        """Share of the machine that neither the group nor this benchmark used, 0 to 1."""

    def begin(self) -> None:
        """Read the CPU time of every known process."""
        self._began_s = time.perf_counter()
        self._busy_before_s = _busy_s()
        self._own_before = _read(tree_of(os.getpid())())
        self._before = _read(self._known)

    def end(self) -> None:
        """Read it again, look for processes that were born meanwhile, and fill ``cpu_s``."""
        after = _read(self._known)
        own_after = _read(tree_of(os.getpid())())
        busy_s = _busy_s() - self._busy_before_s
        machine_s = (time.perf_counter() - self._began_s) * (psutil.cpu_count() or 1)
        # A process born in the window has used all of its time in it. The search is not in the
        # figures: whoever was known has been read already.
        born = {p: name_of(p) for p in self._group() if p not in self._known}
        after.update(_read(born))
        self.cpu_s = {}
        for process, name in (self._known | born).items():
            used_s = after.get(process, 0.0) - self._before.get(process, 0.0)
            self.cpu_s[name] = self.cpu_s.get(name, 0.0) + used_s
        # The load generator is ours, and so is a peer, which may be in both groups.
        own_s = sum(
            used_s - self._own_before.get(process, 0.0)
            for process, used_s in own_after.items()
            if process not in after
        )
        unexplained_s = busy_s - own_s - sum(self.cpu_s.values())
        self.others_share = min(max(unexplained_s / machine_s, 0.0), 1.0)


def tree_of(pid: int) -> Group:
    """Return the group of a process and its descendants."""

    def find() -> Iterable[psutil.Process]:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]

    return find


def pss_bytes(group: Group) -> int:
    """Memory of a group in bytes; pages that several processes share are counted once."""
    total = 0
    for process in group():
        with contextlib.suppress(psutil.Error, OSError):
            total += process.memory_full_info().pss
    return total


_SHORT_NAMES = {
    "dashboard.py": "dashboard",
    "monitor.py": "autoscaler monitor",
    "log_monitor.py": "log monitor",
    "main.py": "agents",  # of the dashboard and of the runtime environment
}


def name_of(process: psutil.Process) -> str:
    """Name what a process is in a few words: a Serve replica by its deployment, else its program.

    Ray writes the actor's name over the command line, as in ``ray::ServeReplica:app:ingress``.
    """
    try:
        words = " ".join(process.cmdline()).split() or [process.name()]
    except (psutil.Error, OSError):
        return "ended meanwhile"
    if words[0].startswith("ray::"):
        return words[0].removeprefix("ray::").rpartition(":")[2].partition(".")[0]
    program = Path(words[0]).name
    if program.startswith("python"):
        for i, word in enumerate(words[1:], start=1):
            if word == "-m" and i + 1 < len(words):
                return _SHORT_NAMES.get(words[i + 1], words[i + 1])
            if word.endswith(".py"):
                return _SHORT_NAMES.get(Path(word).name, Path(word).name)
    return program


def _busy_s() -> float:
    """CPU seconds that all cores have worked for anybody, other virtual machines included."""
    times = psutil.cpu_times()
    extra = (getattr(times, name, 0.0) for name in ("nice", "irq", "softirq", "steal"))
    return times.user + times.system + sum(extra)


def _read(processes: Iterable[psutil.Process]) -> dict[psutil.Process, float]:
    found: dict[psutil.Process, float] = {}
    for process in processes:
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            found[process] = times.user + times.system + times.children_user + times.children_system
    return found
