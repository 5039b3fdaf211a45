"""Attempts at jobs, and deliveries of their webhooks: what the queue calls, one at a time for each.

Whatever happens to an attempt, the table decides: what comes late, or twice, changes nothing there.
While the database does not answer, an attempt's end waits for it, as the work is done already.
"""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import TypeVar

import sqlalchemy as sa

from deployments.runtime.errors import (
    ClServeError,
    NodeError,
    NodeUnavailableError,
    StorageFullError,
    ToolFailedError,
    UnknownJobError,
)
from serve_app.calls import Progress
from serve_app.http.problems import problem_for
from serve_app.jobs.engine import Engine
from serve_app.jobs.events import Events, Kind
from serve_app.jobs.folders import JobFolders
from serve_app.jobs.housekeeping import Housekeeping
from serve_app.jobs.job import Job, JobWork, Outcome
from serve_app.jobs.table import Also, JobTable
from serve_app.jobs.webhooks import Webhooks
from serve_app.jobs.workers import Worker
from serve_app.schema import JobsSpec

logger = logging.getLogger("ray.serve")

WEBHOOK_ATTEMPTS = 8
WEBHOOK_DELAY_S = 5.0
"""Wait before the second delivery, four times as long before each next: eight hours in all."""

MAX_DELAY_S = 300.0
"""Between two attempts at a job; a machine that is being repaired is worth waiting for."""

LOOK_S = 2.0
"""How often what runs is compared with the table: another replica may have cancelled it. So often,
too, is a database asked again that does not answer."""

_BACK_OFF = 4

T = TypeVar("T")


class Attempts:
    """What this replica is doing for jobs."""

    def __init__(  # noqa: PLR0913 - what a runner is made of
        self,
        spec: JobsSpec,
        table: JobTable,
        engine: Engine,
        folders: JobFolders,
        housekeeping: Housekeeping,
        *,
        events: Events,
        webhooks: Webhooks,
        worker: Worker,
    ) -> None:
        """Keep what attempts need; nothing runs."""
        self._spec = spec
        self._table = table
        self._engine = engine
        self._folders = folders
        self._housekeeping = housekeeping
        self._events = events
        self._webhooks = webhooks
        self._worker = worker
        self._progress: dict[str, float] = {}
        self.running: dict[str, asyncio.Task[Job | None]] = {}
        """Work by job."""

    @property
    def idle(self) -> int:
        """How many jobs more could be in work."""
        return max(0, self._spec.max_concurrent - len(self.running))

    def shown(self, job: Job) -> Job:
        """Return a job with its progress, if this replica works on it."""
        return job.with_progress(self._progress.get(job.job_id, 0.0))

    def tell(self, kind: Kind, job: Job) -> None:
        """Tell whoever waits what happened to a job."""
        self._events.publish(kind, self.shown(job))

    def tell_idle(self) -> None:
        """Tell how many jobs more could be in work."""
        self._events.idle(self.idle)

    async def end(self, change: Callable[[Also], Job | None]) -> Job | None:
        """End a job, put its webhook into the queue, and tell; None if it had ended before.

        Args:
            change: what ends it in the table, called in a thread.

        """

        def also(connection: sa.Connection, job: Job) -> None:
            if job.request.webhook is not None:
                self._engine.put_webhook(connection, job.job_id, 1)

        job = await asyncio.to_thread(change, also)
        if job is not None:
            self._engine.wake()
            self.tell("completed" if job.status == "completed" else "failed", job)
        return job

    async def attempt(self, job_id: str, number: int) -> None:
        """Do one attempt at a job."""
        attempt_id = f"a{number}-{secrets.token_hex(4)}"
        job = await asyncio.to_thread(self._table.start, job_id, number, attempt_id)
        if job is None:
            now = await asyncio.to_thread(self._state_of, job_id)
            if now is None or now.ended:  # whoever ended it may have died before it tidied up
                await asyncio.to_thread(self._folders.tidy, job_id, now)
            return
        work = self.running[job_id] = asyncio.ensure_future(self._work_on(job, attempt_id))
        self.tell_idle()
        self.tell("started", job)
        try:
            await asyncio.wait({work})
        finally:
            del self.running[job_id]
            self._progress.pop(job_id, None)
            self.tell_idle()
        now = None if work.cancelled() else work.result()
        if now is None:  # it ended otherwise, or not at all
            now = await asyncio.to_thread(self._state_of, job_id)
        if work.cancelled() and now is not None and not now.ended:
            raise NodeUnavailableError("this replica ends; the one that leads next does it again")
        if now is None or now.status != "completed" or job.started_at != job.updated_at:
            await asyncio.to_thread(self._folders.tidy, job_id, now)  # there may be leftovers

    async def deliver(self, job_id: str, number: int) -> None:
        """Deliver a webhook once; put its next delivery into the queue when that fails."""
        job = await _lasting(lambda: asyncio.to_thread(self._state_of, job_id))
        if job is None or job.request.webhook is None or not job.ended:
            return  # removed, or tried again: its next end is told
        try:
            await self._webhooks.send(job.request.webhook, job)
        except NodeError as error:
            logger.warning("delivery %d for job %s failed: %s", number, job_id, error)
            if number < WEBHOOK_ATTEMPTS:
                await _lasting(lambda: asyncio.to_thread(self._deliver_later, job_id, number))
        except ClServeError as error:
            logger.warning("no webhook for job %s: %s", job_id, error)

    async def stop_what_ended(self) -> None:
        """Stop work on jobs that were cancelled, or removed, where this replica did not see it."""
        while True:
            await asyncio.sleep(LOOK_S)
            for job_id, task in tuple(self.running.items()):
                try:
                    job = await asyncio.to_thread(self._state_of, job_id)
                except NodeUnavailableError:
                    break  # the database does not answer
                if job is None or job.ended:
                    task.cancel()

    async def _work_on(self, job: Job, attempt_id: str) -> Job | None:
        """Do one attempt; return the job after it, or None when the attempt did not count."""
        try:
            outcome = await self._have_done(job, JobWork(job.request, attempt_id))
        except ClServeError as error:
            return await self._failed(job, attempt_id, error)
        except Exception:
            logger.exception("attempt %s at job %s failed unexpectedly", attempt_id, job.job_id)
            error = ClServeError("it failed unexpectedly; the log has the details")
            return await self._failed(job, attempt_id, error)
        self._housekeeping.added(outcome.output_bytes)

        def complete(also: Also) -> Job | None:
            return self._table.complete(job.job_id, attempt_id, outcome, also)

        return await _lasting(lambda: self.end(complete))

    async def _have_done(self, job: Job, work: JobWork) -> Outcome:
        """Let somebody work on a job. Raises the work's ``ClServeError``."""
        async with aclosing(self._worker.run(work)) as news:
            async for item in news:
                if isinstance(item, Outcome):
                    return item
                self._moved(job, item)
        raise NodeUnavailableError("the work on it ended without a result")

    async def _failed(self, job: Job, attempt_id: str, error: ClServeError) -> Job | None:
        """Let a job wait for its next attempt, or end it."""
        told = (str(error), problem_for(error).kind)
        passing = isinstance(error, NodeError | ToolFailedError)
        logger.warning("attempt %s at job %s failed: %s", attempt_id, job.job_id, error)
        if passing:

            def put_back() -> Job | None:
                return self._table.put_back(job.job_id, attempt_id, *told, self._try_again_later)

            waiting = await _lasting(lambda: asyncio.to_thread(put_back))
            if waiting is not None:
                self.tell("queued", waiting)
                return waiting

        def fail(also: Also) -> Job | None:
            return self._table.fail(job.job_id, attempt_id, told, also, dead_letter=passing)

        return await _lasting(lambda: self.end(fail))

    def _try_again_later(self, connection: sa.Connection, job: Job) -> None:
        tried = (job.attempts - 1) % self._spec.max_attempts  # since a person had it tried again
        delay_s = min(self._spec.retry_delay_s * _BACK_OFF**tried, MAX_DELAY_S)
        priority = job.request.priority
        self._engine.put_attempt(connection, job.job_id, job.attempts + 1, priority, delay_s)

    def _deliver_later(self, job_id: str, number: int) -> None:
        delay_s = WEBHOOK_DELAY_S * _BACK_OFF ** (number - 1)
        self._table.in_transaction(
            lambda connection: self._engine.put_webhook(connection, job_id, number + 1, delay_s),
        )

    def _moved(self, job: Job, progress: Progress) -> None:
        # Never backwards, and 100 only when it is completed.
        percent = min(99.0, progress.percent)
        if percent > self._progress.get(job.job_id, 0.0):
            self._progress[job.job_id] = percent
            self.tell("progress", job)

    def _state_of(self, job_id: str) -> Job | None:
        """Return a job, or None when it was removed. Blocks."""
        try:
            return self._table.get(job_id)
        except UnknownJobError:
            return None


async def _lasting(write: Callable[[], Awaitable[T]]) -> T:
    """Do what needs the database, as soon as it answers."""
    while True:
        try:
            return await write()
        except (NodeUnavailableError, StorageFullError) as error:
            logger.warning("waiting for the database of jobs: %s", error)
            await asyncio.sleep(LOOK_S)
