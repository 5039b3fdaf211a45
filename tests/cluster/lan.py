"""A local network of several machines on this one: namespaces, joined by a bridge.

Each has its own interfaces, ports, processes, host name, state folder and cache folder, so Ray
takes them for machines: it looks for others by their processes, too. A cable is pulled by taking a
link down, and the power by killing the first process of a namespace, with which the kernel ends
all others. Needs root and iproute2.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

NETWORK = "10.213.77"
"""A private range that is hardly anybody's; the bridge, and so the test itself, is ``.1``."""

_BRIDGE = "cls-bridge"
_COMMAND_TIMEOUT_S = 150


def why_not() -> str | None:
    """Say why there can't be a network here, or None if there can."""
    if os.geteuid() != 0:
        return "network namespaces need root; run `sudo make test-cluster`"
    if shutil.which("ip") is None:
        return "network namespaces need iproute2; install it with `apt-get install iproute2`"
    probe = _ip("netns", "add", "cls-probe", check=False)
    if probe.returncode != 0:
        return f"network namespaces are not allowed here: {probe.stderr.strip()}"
    _ip("netns", "delete", "cls-probe")
    return None


@dataclass(frozen=True)
class Machine:
    """One machine of the network."""

    name: str
    address: str
    folder: Path
    power: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def namespace(self) -> str:
        """The name of its network namespace."""
        return f"cls-{self.name}"

    @property
    def state(self) -> Path:
        """Its state folder."""
        return self.folder / "state"

    @property
    def cache(self) -> Path:
        """What ``XDG_CACHE_HOME`` is there."""
        return self.folder / "cache"

    def boot(self) -> None:
        """Start the first process, which is what keeps the machine on."""
        # As nobody's parent it need not wait for orphans; ignored, the signal lets them vanish.
        first = 'trap "" CHLD; hostname "$0"; exec sleep infinity'
        inside = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--uts"]
        self.power.append(
            subprocess.Popen(
                ["ip", "netns", "exec", self.namespace, *inside, "sh", "-c", first, self.name],  # noqa: S607 - of the system
                stdin=subprocess.DEVNULL,
            ),
        )
        while "sleep" not in [process.name() for process in self.processes_named()]:
            time.sleep(0.01)

    def command(self, *words: str) -> list[str]:
        """Return the command that runs ``words`` on this machine."""
        (first,) = psutil.Process(self.power[0].pid).children()
        return ["nsenter", f"--target={first.pid}", "--net", "--pid", "--mount", "--uts", *words]

    def environment(self) -> Mapping[str, str]:
        """Return what the processes of this machine find in their environment."""
        return {**os.environ, "XDG_CACHE_HOME": str(self.cache)}

    def run(
        self,
        *words: str,
        stdin: str = "",
        check: bool = True,
        timeout_s: float = _COMMAND_TIMEOUT_S,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program there and return what it printed, both streams in one."""
        done = subprocess.run(
            self.command(*words),
            env=self.environment(),
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        if check and done.returncode != 0:
            raise AssertionError(f"{self.name}: {' '.join(words)} failed:\n{done.stdout}")
        return done

    def cl_serve(
        self, *words: str, stdin: str = "", check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run ``cl-serve`` there, with this machine's state folder."""
        program = str(Path(sys.executable).with_name("cl-serve"))
        return self.run(program, *words, "--state", str(self.state), stdin=stdin, check=check)

    def pids(self) -> list[int]:
        """All processes that run there, but for those that keep it on."""
        pids = [int(pid) for pid in _ip("netns", "pids", self.namespace).stdout.split()]
        own = [process.pid for process in self.power]
        return [pid for pid in pids if pid not in own and _parent(pid) not in own]

    def processes_named(self, *names: str) -> list[psutil.Process]:
        """Return the processes there of these names, or all of them where none is given."""
        found: list[psutil.Process] = []
        for pid in _ip("netns", "pids", self.namespace).stdout.split():
            with contextlib.suppress(psutil.NoSuchProcess):  # it has ended meanwhile
                process = psutil.Process(int(pid))
                if not names or process.name() in names:
                    found.append(process)
        return found

    def lose_power(self) -> None:
        """End every process at once."""
        while self.power:
            switch = self.power.pop()
            switch.kill()
            switch.wait()
        while _ip("netns", "pids", self.namespace).stdout:
            time.sleep(0.01)

    def unplug(self) -> None:
        """Pull the network cable."""
        _ip("link", "set", f"cls-{self.name}", "down")

    def plug_in(self) -> None:
        """Put the network cable back."""
        _ip("link", "set", f"cls-{self.name}", "up")


@contextmanager
def network(names: Sequence[str], folder: Path) -> Iterator[list[Machine]]:
    """Make machines of these names in one network; at the end nothing of them is left."""
    machines = [
        Machine(name, f"{NETWORK}.{number}", folder / name)
        for number, name in enumerate(names, start=10)
    ]
    _remove(machines)  # what a killed run has left
    _ip("link", "add", _BRIDGE, "type", "bridge")
    _ip("address", "add", f"{NETWORK}.1/24", "dev", _BRIDGE)
    _ip("link", "set", _BRIDGE, "up")
    try:
        for machine in machines:
            _connect(machine)
            machine.boot()
        yield machines
    finally:
        for machine in machines:
            machine.lose_power()
        _remove(machines)


def _connect(machine: Machine) -> None:
    outer, inner = f"cls-{machine.name}", "eth0"
    inside = ("-n", machine.namespace)
    _ip("netns", "add", machine.namespace)
    _ip("link", "add", outer, "type", "veth", "peer", "name", inner, "netns", machine.namespace)
    _ip("link", "set", outer, "master", _BRIDGE, "up")
    _ip(*inside, "address", "add", f"{machine.address}/24", "dev", inner)
    _ip(*inside, "link", "set", inner, "up")
    _ip(*inside, "link", "set", "lo", "up")
    machine.cache.mkdir(parents=True, exist_ok=True)


def _remove(machines: Sequence[Machine]) -> None:
    for machine in machines:
        _ip("netns", "delete", machine.namespace, check=False)
        _ip("link", "delete", f"cls-{machine.name}", check=False)
    _ip("link", "delete", _BRIDGE, check=False)


def _parent(pid: int) -> int | None:
    try:
        return psutil.Process(pid).ppid()
    except psutil.NoSuchProcess:
        return None


def _ip(*words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    program = shutil.which("ip") or "ip"
    done = subprocess.run([program, *words], capture_output=True, text=True, check=False)
    if check and done.returncode != 0:
        raise RuntimeError(f"ip {' '.join(words)}: {done.stderr.strip()}")
    return done
