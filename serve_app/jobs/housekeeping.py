"""What keeps the jobs of a year from filling the disk: ended ones go, and what died ones left.

The leading runner does it now and then, in small steps, so that jobs hardly notice.
"""

import asyncio
import logging
import time
from collections.abc import Collection

from sqlalchemy.exc import SQLAlchemyError

from deployments.runtime.errors import ClServeError
from serve_app.jobs.engine import Engine
from serve_app.jobs.folders import JobFolders
from serve_app.jobs.job import Job
from serve_app.jobs.rows import now_ms
from serve_app.jobs.table import JobTable
from serve_app.schema import JobsSpec

logger = logging.getLogger("ray.serve")

PERIOD_S = 20.0
STEP = 500
"""Rows of one transaction: some milliseconds, for which submissions wait."""

QUIET_S = 30.0
"""Work of which nothing was heard for so long is looked at: does it still run?"""

LATE_S = 3600.0
"""Of so long before it began to lead, a runner looks for what was left behind."""

LEFTOVER_AGE_S = 24 * 3600.0
"""Folders without a job are removed when so old; a long upload has one before its job exists."""

ENGINE_AGE_S = 600.0
"""How long the queue's own rows of ended work are kept, to look at; the table has what matters."""


class Housekeeping:
    """Removes what is over, and finds what was lost."""

    def __init__(
        self,
        table: JobTable,
        engine: Engine,
        folders: JobFolders,
        spec: JobsSpec,
    ) -> None:
        """Count the bytes that there are."""
        self._table = table
        self._engine = engine
        self._folders = folders
        self._spec = spec
        _, self._bytes = table.totals()
        self._tidied_ms = now_ms() - int(LATE_S * 1000)

    def room(self) -> int:
        """Bytes that the files of new jobs may take."""
        return max(0, self._spec.max_bytes - self._bytes)

    def added(self, size_bytes: int) -> None:
        """Note that files were added."""
        self._bytes += size_bytes

    async def run(self, running: Collection[str]) -> None:
        """Keep house for ever; ``running`` has the ids of what this process works on."""
        swept_s = float("-inf")
        while True:
            try:
                await asyncio.to_thread(self._step, frozenset(running))
                if time.monotonic() - swept_s > LEFTOVER_AGE_S / 24:
                    await asyncio.to_thread(self._sweep)
                    swept_s = time.monotonic()
            except (OSError, ClServeError, SQLAlchemyError):
                logger.warning("keeping house failed; trying again soon", exc_info=True)
            await asyncio.sleep(PERIOD_S)

    def remove_ended(self, older_than_s: float) -> tuple[int, int]:
        """Remove jobs that ended so long ago; return how many, and the bytes of their files."""
        _, before = self._table.totals()
        count = 0
        while ids := self._table.expired(now_ms() - int(older_than_s * 1000), STEP):
            self._table.remove(ids)  # first: files without a job are found again, by ``_sweep``
            for job_id in ids:
                self._folders.remove(job_id)
            count += len(ids)
        _, self._bytes = self._table.totals()
        return count, before - self._bytes

    def _step(self, running: Collection[str]) -> None:
        self.remove_ended(self._spec.keep_s)
        self._folders.remove_abandoned()
        self._tidy_again(now_ms() - int(QUIET_S * 1000))
        while self._engine.forget_ended(now_ms() - int(ENGINE_AGE_S * 1000), STEP) == STEP:
            pass
        self._engine.put_back_lost(now_ms() - int(QUIET_S * 1000))
        for job in self._table.idle_since(now_ms() - int(QUIET_S * 1000), STEP):
            if job.job_id not in running:
                self._revive(job)

    def _tidy_again(self, until_ms: int) -> None:
        """Tidy up after what has ended: whose runner had died may have written on since."""
        jobs = self._table.ended_between(self._tidied_ms, until_ms, STEP)
        for job in jobs:
            self._folders.tidy(job.job_id, job)
        self._tidied_ms = until_ms if len(jobs) < STEP else jobs[-1].completed_at or until_ms

    def _revive(self, job: Job) -> None:
        """Put the attempt of a job into the queue that nobody does, nor ever will."""
        number = job.attempts + (job.status == "queued")
        if self._engine.is_alive(job.job_id, number):
            return
        logger.warning("job %s was %s and lost; it is tried again", job.job_id, job.status)
        self._table.in_transaction(
            lambda connection: self._engine.put_attempt(
                connection, job.job_id, number, job.request.priority
            ),
        )
        self._engine.wake()

    def _sweep(self) -> None:
        self._folders.sweep(LEFTOVER_AGE_S)
        found = self._folders.abandoned(time.time() - LEFTOVER_AGE_S, STEP)
        for job_id in set(found) - self._table.known(found):
            self._folders.remove(job_id)
