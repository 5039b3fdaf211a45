"""Replicas side by side: as many processes as a setting has, measured at the same moment.

Processes are spawned, not forked, since ONNX Runtime holds threads, and so that each has its own
memory as a real one has. They end by themselves when this process is gone, however it ends.
"""

import multiprocessing
import signal
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from deployments.runtime.errors import ClServeError, StackError
from deployments.runtime.types import Upload
from serve_app.cli.tune.replica import Load, Replica, Sample
from serve_app.cli.tune.settings import Setting
from serve_app.config import ServeFile

_END_S = 5.0
"""A process that waits for its next call ends at once; one that computes gets so long."""

Known = Mapping[str, Any]
"""Node to its result."""

_spawn = multiprocessing.get_context("spawn")


@dataclass(frozen=True, slots=True)
class Figures:
    """What a setting does on this machine, all its replicas together."""

    per_s: float
    p50_ms: float
    p95_ms: float
    cpu_ms: float
    memory_mb: float


class Crew:
    """Processes that are replicas, of one deployment after another; use it as a context."""

    def __init__(self, file: ServeFile, upload: Upload) -> None:
        """Remember the file and what every request brings; nothing is started yet."""
        self._about = (file.document, file.path, upload)
        self._members: list[_Member] = []

    def __enter__(self) -> Self:
        """Start nothing: processes start when a setting needs them."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End every process."""
        for member in self._members:
            member.end()

    def load(self, names: Sequence[str], setting: Setting) -> None:
        """Load nodes in every replica of a setting; processes that it has no use for hold none.

        Raises:
            ClServeError: a node can't be loaded, or a process died.

        """
        missing = setting.replicas - len(self._members)
        self._members += [_Member(*self._about) for _ in range(missing)]
        calls = [("load", (tuple(names), setting))] * setting.replicas
        self._each([*calls, *[("unload", ())] * (len(self._members) - len(calls))])

    def tune(self, setting: Setting) -> None:
        """Give the loaded nodes other batches."""
        self._all(setting.replicas, "tune", setting)

    def results(self) -> tuple[dict[str, Any], dict[str, float]]:
        """Run every loaded node in the first process; see ``Replica.results``."""
        return self._all(1, "results")[0]

    def run(self, replicas: int, names: Sequence[str], known: Known, load: Load) -> Figures:
        """Measure the loaded nodes in all replicas at once; see ``Replica.run``.

        Args:
            replicas: how many processes take part.
            names: what each request runs.
            known: results that they need besides.
            load: its clients are those of all replicas together.

        """
        each = [
            Load(clients, load.warm_up_s, load.window_s)
            for clients in _shares(load.clients, replicas)
        ]
        calls = [("run", (tuple(names), known, part)) for part in each if part.clients]
        samples: list[Sample] = self._each(calls)
        latencies = np.concatenate([sample.latencies_ms for sample in samples])
        rates = [sample.per_s for sample in samples]
        p50_ms, p95_ms = np.percentile(latencies, (50, 95))
        return Figures(
            per_s=sum(rates),
            p50_ms=float(p50_ms),
            p95_ms=float(p95_ms),
            cpu_ms=float(np.average([sample.cpu_ms for sample in samples], weights=rates)),
            memory_mb=sum(self._all(replicas, "memory_bytes")) / 1e6,
        )

    def _all(self, count: int, method: str, *args: Any) -> list[Any]:  # noqa: ANN401 - passes anything through
        return self._each([(method, args)] * count)

    def _each(self, calls: Sequence[tuple[str, tuple[Any, ...]]]) -> list[Any]:
        """Make calls, one in each of the first processes; all run at once."""
        members = self._members[: len(calls)]
        for member, (method, args) in zip(members, calls, strict=True):
            member.call(method, *args)
        return [member.answer() for member in members]


class _Member:
    """One process and the way to it."""

    def __init__(self, document: dict[str, Any], path: Path, upload: Upload) -> None:
        self._way, there = _spawn.Pipe()
        self._process = _spawn.Process(
            target=_serve, args=(there, document, path, upload), daemon=True
        )
        self._process.start()
        there.close()

    def call(self, method: str, *args: Any) -> None:  # noqa: ANN401 - passes anything through
        """Begin a call; what became of the process is what ``answer`` finds."""
        with suppress(BrokenPipeError):
            self._way.send((method, args))

    def answer(self) -> Any:  # noqa: ANN401 - the method's own
        """Wait for what the call returns.

        Raises:
            ClServeError: what it raised.
            StackError: the process died, or the call failed unexpectedly.

        """
        try:
            result = self._way.recv()
        except (EOFError, ConnectionResetError) as error:
            self._process.join()
            raise StackError(
                f"a process that measured died with exit code {self._process.exitcode}; -9 is "
                "most often a machine without memory left: end other programs and try again",
            ) from error
        if isinstance(result, ClServeError):
            raise result
        return result

    def end(self) -> None:
        """End the process."""
        self._way.close()
        self._process.join(_END_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def _serve(way: Connection, document: dict[str, Any], path: Path, upload: Upload) -> None:
    """Be a replica, in its process, until the other side is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the other side ends us
    replica: Replica | None = None
    while True:
        try:
            method, args = way.recv()
        except EOFError:
            return
        result: Any
        try:
            replica = replica or Replica(document, path, upload)
            result = getattr(replica, method)(*args)
        except ClServeError as error:
            result = error
        except Exception:  # noqa: BLE001 - not every error pickles, so it crosses as text
            result = StackError(f"measuring failed unexpectedly:\n{traceback.format_exc()}")
        way.send(result)


def _shares(total: int, parts: int) -> list[int]:
    """Share a number out, as evenly as it goes."""
    return [total // parts + (i < total % parts) for i in range(parts)]
