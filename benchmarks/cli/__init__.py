"""The command line of the benchmarks."""

from benchmarks.cli.main import cli, main

__all__ = ["cli", "main"]
