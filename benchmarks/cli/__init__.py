"""The command line of the benchmarks."""

from benchmarks.cli.compare import cli, main

__all__ = ["cli", "main"]
