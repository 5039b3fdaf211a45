"""A service that runs, and how it is measured over HTTP."""

from dataclasses import dataclass, replace

from benchmarks.load.child import in_process
from benchmarks.load.cpu import CpuMeter, Group
from benchmarks.load.generator import Target, generate
from benchmarks.load.run import Run, Timing


@dataclass(frozen=True, slots=True)
class Service:
    """Where a service takes photos, and which processes it consists of."""

    url: str
    processes: Group

    def measure(self, photo: bytes, timing: Timing) -> Run:
        """Measure it under load; the generator's own CPU is not in the result.

        Raises:
            BenchmarkError: a request failed.

        """
        meter = CpuMeter(self.processes)
        run = in_process(generate, meter, Target(self.url, photo), timing)
        return replace(run, cpu_s=meter.cpu_s, others_share=meter.others_share)
