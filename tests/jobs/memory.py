"""Watches how much memory processes take while something happens."""

import threading
from typing import Self

import psutil


class Memory:
    """Watches the resident memory of processes for the time of a block."""

    def __init__(self, processes: list[psutil.Process]) -> None:
        """Note how much there is before."""
        self._before = {process: process.memory_info().rss for process in processes}
        self.growth_bytes = dict.fromkeys(processes, 0)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        """Begin to look."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Look no more."""
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(0.05):
            for process, before in self._before.items():
                growth = process.memory_info().rss - before
                self.growth_bytes[process] = max(growth, self.growth_bytes[process])
