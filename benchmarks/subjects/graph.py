"""cl-ml-serve itself: started and ended by its own command, reached over HTTP and over handles."""

import asyncio
import logging
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from benchmarks.errors import BenchmarkError
from benchmarks.load.child import Window, in_process
from benchmarks.load.cores import check_bound, one_core
from benchmarks.load.cpu import CpuMeter
from benchmarks.load.run import Run, Timing
from benchmarks.subjects.service import Service
from benchmarks.workloads.workload import Workload
from deployments.face_embedding import FaceEmbedding
from serve_app.handles import connect
from serve_app.stack import RunningStack, Stack
from serve_app.stack.ports import free_ports

START_S = 35.0
"""Expected seconds to start and end a stack, for the progress bar."""

_COMMAND_TIMEOUT_S = 600

_STEP = re.compile(r"^  (.+): ([\d.]+) s$", re.MULTILINE)
"""A line of `cl-serve up --verbose`."""


@dataclass(frozen=True, slots=True)
class GraphService(Service):
    """A running stack: a service that can be reached over Ray handles as well.

    ``state`` is the folder of the stack's state, which is how a Ray driver finds it and is let in.
    ``steps_s`` are the steps of its start with the seconds that each took.
    """

    state: Path
    steps_s: Mapping[str, float]

    def measure_handles(self, workload: Workload, timing: Timing) -> Run:
        """Measure the Python handle API, all calls from one driver, whose CPU is not counted."""
        if workload.photo is None:
            raise BenchmarkError(f"{workload.name} is not measured over handles")
        meter = CpuMeter(self.processes)
        run = in_process(_call_handles, meter, self.state, workload.photo.data, timing)
        return replace(run, cpu_s=meter.cpu_s, others_share=meter.others_share)


@contextmanager
def one_core_service(config: Path) -> Iterator[GraphService]:
    """Run a stack on one core, to which whoever measures it within the block is bound as well.

    Raises:
        BenchmarkError: it did not start, or a process of it has another core.

    """
    with one_core() as core, graph_service(config) as service:
        check_bound(service.processes, core)
        yield service


@contextmanager
def graph_service(config: Path, raw: dict[str, object] | None = None) -> Iterator[GraphService]:
    """Run a stack of its own on a free port while the block runs.

    Args:
        config: the YAML file of the graph.
        raw: what to run in place of the file's content; its paths must be absolute.

    Raises:
        BenchmarkError: it did not start; the message holds what the command printed.

    """
    with tempfile.TemporaryDirectory(prefix="cl-serve-bench-") as folder:
        state = Path(folder) / "state"
        if raw is not None:
            config = Path(folder) / "serve.yaml"
            config.write_text(yaml.safe_dump(raw, sort_keys=False), encoding="utf-8")
        running: RunningStack | None = None
        try:
            port = free_ports(1)[0]
            said = _cl_serve(
                "up", "--verbose", f"--config={config}", f"--port={port}", f"--state={state}"
            )
            running = Stack(state).running()
            if running is None:
                raise BenchmarkError("`cl-serve up` returned and nothing runs")
            yield GraphService(
                url=running.url,
                processes=running.mark.processes,
                state=state,
                steps_s=steps_of(said),
            )
        finally:
            _cl_serve("down", f"--state={state}")
            if running is not None:  # the logs of a stack that did not start are worth keeping
                shutil.rmtree(running.folder, ignore_errors=True)


def steps_of(said: str) -> dict[str, float]:
    """Read how long each step took from what `cl-serve up --verbose` said."""
    return {step: float(taken_s) for step, taken_s in _STEP.findall(said)}


def _cl_serve(*arguments: str) -> str:
    """Run a command of cl-serve; return what it prints."""
    command = [str(Path(sys.executable).with_name("cl-serve")), *arguments]
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_COMMAND_TIMEOUT_S,
        check=False,
        start_new_session=True,  # Ctrl-C is for us, who then end the stack
    )
    if done.returncode != 0:
        raise BenchmarkError(f"`cl-serve {arguments[0]}` failed:\n{done.stdout.strip()}")
    return done.stdout


def _call_handles(window: Window, state: Path, photo: bytes, timing: Timing) -> Run:
    """Call the graph in a closed loop as a Ray driver; runs in a process of its own."""
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    client = connect(Stack(state))
    latencies_ms: list[float] = []
    begin_s = time.perf_counter() + timing.warm_up_s
    end_s = begin_s + timing.seconds

    async def loop() -> None:
        while (start_s := time.perf_counter()) < end_s:
            await client.run_async(FaceEmbedding, photo)
            if begin_s <= (done_s := time.perf_counter()) < end_s:
                latencies_ms.append((done_s - start_s) * 1000)

    async def marks() -> None:
        await asyncio.sleep(begin_s - time.perf_counter())
        window.begin()
        await asyncio.sleep(end_s - time.perf_counter())
        window.end()

    async def main() -> None:
        await asyncio.gather(marks(), *(loop() for _ in range(timing.clients)))

    asyncio.run(main())
    return Run(clients=timing.clients, elapsed_s=timing.seconds, latencies_ms=latencies_ms)
