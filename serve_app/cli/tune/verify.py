"""Real stacks for a few files: Ray, HTTP and all, one after another, under the same load.

What runs in this machine's own processes leaves out HTTP and what crosses between processes; here
they count. Each stack has a state folder and ports of its own, and is ended before the next one.
"""

import asyncio
import copy
import tempfile
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

import httpx2
import numpy as np
import psutil

from deployments.runtime.errors import StackError
from serve_app.cli.tune.bench import Steps
from serve_app.cli.tune.crew import Figures
from serve_app.cli.tune.replica import Load
from serve_app.config import CLUSTER, ServeFile
from serve_app.graph import JOBS
from serve_app.stack import RunningStack, Stack
from serve_app.stack.ports import free_ports

TIMEOUT_S = 120.0
"""Of one request; the first ones meet models that sleep."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent: a photo and a text, and the outputs that are asked for."""

    photo: bytes
    text: str
    outputs: tuple[str, ...]


def verify(
    files: Mapping[str, ServeFile], request: Request, load: Load, steps: Steps
) -> dict[str, Figures]:
    """Measure files over HTTP.

    Args:
        files: by a title.
        request: what is sent.
        load: how much.
        steps: is told of each file.

    Returns:
        Figures by title; the CPU is that of all processes of the stack.

    Raises:
        StackError: a stack did not start, or a request failed.

    """
    steps.expect(len(files))
    found: dict[str, Figures] = {}
    for title, file in files.items():
        steps.step(f"a stack: {title}")
        with tempfile.TemporaryDirectory(prefix="cl-serve-tune-") as name:
            stack = Stack(Path(name))
            running = stack.up(_by_itself(file), lambda _: None)
            try:
                found[title] = asyncio.run(drive(running, request, load))
            finally:
                stack.down()
    return found


async def drive(running: RunningStack, request: Request, load: Load) -> Figures:
    """Send requests to a stack in a closed loop.

    Raises:
        StackError: a request failed, or none was answered in time.

    """
    latencies: list[tuple[float, float]] = []  # when it ended, and after how many ms

    async def client(http: httpx2.AsyncClient, until_s: float) -> None:
        while (start_s := time.perf_counter()) < until_s:
            answer = await http.post(
                "/v1/analyze",
                params={"outputs": ",".join(request.outputs)},
                files={"file": ("photo.jpg", request.photo)},
                data={"text": request.text},
            )
            if answer.status_code != HTTPStatus.OK or answer.json()["problems"]:
                raise StackError(
                    f"a request failed with status {answer.status_code}: {answer.text[:500]}"
                )
            end_s = time.perf_counter()
            latencies.append((end_s, (end_s - start_s) * 1000))

    # With a transport of its own a client takes no proxy from the environment.
    transport = httpx2.AsyncHTTPTransport()
    try:
        async with httpx2.AsyncClient(
            base_url=running.url, timeout=TIMEOUT_S, transport=transport
        ) as http:
            await client(http, time.perf_counter() + load.warm_up_s)  # wakes what sleeps
            begin_s = time.perf_counter() + load.warm_up_s
            end_s = begin_s + load.window_s
            clients = [asyncio.create_task(client(http, end_s)) for _ in range(load.clients)]
            await asyncio.sleep(load.warm_up_s)
            processes = running.mark.processes()
            cpu_begin_s = _cpu_s(processes)
            begin_s = time.perf_counter()
            await asyncio.sleep(end_s - begin_s)
            cpu_s = _cpu_s(processes) - cpu_begin_s
            await asyncio.gather(*clients)
    except httpx2.HTTPError as error:
        raise StackError(f"{running.url} does not answer: {error!r}") from error
    inside = [ms for at_s, ms in latencies if begin_s <= at_s <= end_s]
    if not inside:
        raise StackError(f"no answer within {load.window_s:g} s; leave out --quick")
    p50_ms, p95_ms = np.percentile(inside, (50, 95))
    return Figures(
        per_s=len(inside) / (end_s - begin_s),
        p50_ms=float(p50_ms),
        p95_ms=float(p95_ms),
        cpu_ms=1000 * cpu_s / len(inside),
        memory_mb=sum(_memory(process) for process in processes) / 1e6,
    )


def _by_itself(file: ServeFile) -> ServeFile:
    """Return a file that leaves others alone: no jobs, no events, no machines that join."""
    document = copy.deepcopy(file.document)
    document.pop(CLUSTER, None)
    application = document["applications"][0]
    for key in ("jobs", "events"):
        application["args"].pop(key, None)
    entries = application.get("deployments", [])
    application["deployments"] = [entry for entry in entries if entry["name"] != JOBS]
    return ServeFile(document, file.path).with_overrides(port=free_ports(1)[0], offline=True)


def _cpu_s(processes: Iterable[psutil.Process]) -> float:
    total_s = 0.0
    for process in processes:
        with suppress(psutil.Error):  # it has ended
            times = process.cpu_times()
            total_s += times.user + times.system
    return total_s


def _memory(process: psutil.Process) -> float:
    with suppress(psutil.Error):
        return process.memory_full_info().pss
    return 0.0
