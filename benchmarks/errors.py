"""The error of the benchmarks."""


class BenchmarkError(Exception):
    """A benchmark can't give a figure that means anything; ``str(error)`` says why."""
