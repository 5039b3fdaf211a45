"""A service that runs, and how it is measured over HTTP."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from benchmarks.load.child import in_process
from benchmarks.load.cpu import CpuMeter, Group
from benchmarks.load.generator import Target, fetch, generate
from benchmarks.load.run import Run, Timing
from benchmarks.workloads.answers import check
from benchmarks.workloads.workload import Post, Workload

ROUTE = "/v1/face_embedding"

Encode = Callable[[bytes], Post]
"""Makes the request for the faces of a photo."""


def raw_body(photo: bytes) -> Post:
    """Send a photo as it is."""
    return Post(ROUTE, photo)


@dataclass(frozen=True, slots=True)
class Service:
    """Where a service listens, which processes it consists of, and how it takes photos.

    ``encode`` is None for one that takes the posts of a workload as they are.
    """

    url: str
    processes: Group
    encode: Encode | None = field(default=None, kw_only=True)

    def targets(self, workload: Workload) -> list[Target]:
        """Say what to send here."""
        posts = workload.posts
        if self.encode is not None and workload.photo is not None:
            posts = [self.encode(workload.photo.data)]
        return [Target(self.url + post.path, post.body, post.content_type) for post in posts]

    def check(self, workload: Workload, title: str) -> Run:
        """Send the first request of a workload, compare its answer with the bare one, and time it.

        Raises:
            BenchmarkError: another answer, or none.

        """
        began_s = time.perf_counter()
        reply = asyncio.run(fetch(self.targets(workload)[0]))
        elapsed_s = time.perf_counter() - began_s
        if workload.photo is not None:
            check(reply, workload.expected, title)
        return Run(clients=1, elapsed_s=elapsed_s, latencies_ms=[elapsed_s * 1000])

    def measure(self, workload: Workload, timing: Timing) -> Run:
        """Measure it under load; the generator's own CPU is not in the result.

        Raises:
            BenchmarkError: it did not answer.

        """
        meter = CpuMeter(self.processes)
        run = in_process(generate, meter, self.targets(workload), timing)
        return replace(run, cpu_s=meter.cpu_s, others_share=meter.others_share)
