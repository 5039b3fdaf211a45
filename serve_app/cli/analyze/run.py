"""The run itself: several files at a time, until all are done or something ends it early."""

import asyncio
import signal
from collections.abc import Iterable

from click import ClickException

from serve_app.cli.analyze.display import Display
from serve_app.cli.analyze.files import FileVersion
from serve_app.cli.analyze.results import JsonLinesResults, Record
from serve_app.cli.analyze.service import Service

Stopped = signal.Signals | ClickException
"""What ended a run early: who wanted it to, or what no other file would have escaped."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Run:
    """Sends files and keeps what comes back; files in work when it is stopped are not kept."""

    def __init__(self, service: Service, results: JsonLinesResults, display: Display) -> None:
        """Keep the three; ``results`` is open."""
        self._service = service
        self._results = results
        self._display = display
        self._task: asyncio.Task[None] | None = None
        self._stopped: Stopped | None = None

    def send(self, files: Iterable[tuple[str, FileVersion]], concurrency: int) -> Stopped | None:
        """Send files, so many at a time; return None when all were, else what stopped it."""
        asyncio.run(self._send(files, concurrency))
        return self._stopped

    async def _send(self, files: Iterable[tuple[str, FileVersion]], concurrency: int) -> None:
        loop = asyncio.get_running_loop()
        waiting = iter(files)
        async with self._service:
            self._task = loop.create_task(self._work_on(waiting, concurrency))
            for number in _SIGNALS:
                loop.add_signal_handler(number, self._stop, number)
            await asyncio.wait([self._task])
        if not self._task.cancelled():
            self._task.result()

    async def _work_on(
        self,
        files: Iterable[tuple[str, FileVersion]],
        concurrency: int,
    ) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(self._work(files))

    async def _work(self, files: Iterable[tuple[str, FileVersion]]) -> None:
        for path, version in files:
            try:
                record = await self._service.analyze(path, version)
                self._results.append(record)
            except ClickException as error:
                self._stop(error)
                return
            kept = Record.model_validate(record).kept(record["request"], self._results.path)
            self._display.advance(kept)

    def _stop(self, reason: Stopped) -> None:
        assert self._task is not None  # noqa: S101 - narrows the type: only the task leads here
        self._stopped = self._stopped or reason
        self._task.cancel()
