"""The ``jobs`` deployment: takes jobs, has them worked on in their order, tells who waits.

It computes nothing. For each attempt it calls an ingress, which has the graph; so a job that kills
the process that works on it does not kill the queue. Its methods are called over handles, by the
ingresses and by Python clients; ``remote_runner.py`` is their end of it.
"""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from deployments.runtime.errors import (
    CancelledRequestError,
    ClServeError,
    NodeError,
    NodeUnavailableError,
    StorageFullError,
    ToolFailedError,
    UnknownJobError,
)
from serve_app.calls import Progress
from serve_app.http.problems import problem_for
from serve_app.jobs.database import open_database
from serve_app.jobs.engine import Engine
from serve_app.jobs.events import Events, Kind
from serve_app.jobs.folders import JobFolders
from serve_app.jobs.housekeeping import Housekeeping
from serve_app.jobs.job import Job, JobFilter, JobPage, JobRequest, JobStats, JobWork, Outcome
from serve_app.jobs.lead import DatabaseLead, FileLead, Lead
from serve_app.jobs.table import Also, JobTable
from serve_app.jobs.webhooks import Webhooks
from serve_app.jobs.workers import RemoteWorker, Worker
from serve_app.logs import set_up_logs
from serve_app.schema import EventsSpec, JobsSpec
from serve_app.stores import jobs_folder, open_job_files

logger = logging.getLogger("ray.serve")

WEBHOOK_ATTEMPTS = 8
WEBHOOK_DELAY_S = 5.0
"""Wait before the second delivery, four times as long before each next: eight hours in all."""

MAX_DELAY_S = 300.0
"""Between two attempts at a job; a machine that is being repaired is worth waiting for."""

RUN_CHECK_S = 2.0
"""How often what runs is compared with the table: another replica may have cancelled it."""

_BACK_OFF = 4


class JobRunner:
    """Takes jobs and has them done. One replica leads; others only take and tell."""

    def __init__(
        self,
        spec: JobsSpec,
        events: EventsSpec,
        tasks: Sequence[str],
        worker: Worker | None = None,
    ) -> None:
        """Open the table and begin to lead, as soon as no other replica does.

        Args:
            spec: the YAML's ``args.jobs``.
            events: the YAML's ``args.events``.
            tasks: what jobs may ask for.
            worker: who works on them; by default the ingress of this application.

        Raises:
            ConfigError: a file that the YAML names can't be used.

        """
        set_up_logs()
        folder = jobs_folder(spec)
        database = open_database(spec.database, folder)
        self._spec = spec
        self._table = JobTable(
            database,
            max_queued=spec.max_queued,
            max_attempts=spec.max_attempts,
        )
        self._engine = Engine(database, spec.max_concurrent)
        self._folders = JobFolders(open_job_files(spec), folder)
        self._webhooks = Webhooks(spec.webhooks, folder)
        self._events = Events(events, folder, tasks)
        self._lead: Lead = (
            FileLead(folder / "runner.lock") if spec.database is None else DatabaseLead(database)
        )
        self._housekeeping = Housekeeping(self._table, self._engine, self._folders, spec)
        self._running: dict[str, asyncio.Task[Job | None]] = {}
        """Work by job."""
        self._progress: dict[str, float] = {}
        self._worker = worker or RemoteWorker()
        self._leading = asyncio.get_running_loop().create_task(self._keep_leading())

    def check_health(self) -> None:
        """Fail when this replica has given up to lead; Serve starts another one then."""
        if self._leading.done():
            self._leading.result()

    def __del__(self) -> None:
        """Let the next replica lead; Serve calls it when this one ends."""
        self._engine.stop()
        self._events.close()
        self._lead.release()
        self._engine.close()

    async def submit(self, request: JobRequest) -> Job:
        """Take a job; its input is in its folder already.

        Submitting the same ``job_id`` or idempotency key again gives the job that there is.

        Raises:
            InvalidParameterError: the webhook is not allowed, or the idempotency key was used for
                something else.
            OverloadedError: too many jobs wait already.
            StorageFullError: the files of all jobs take what they may.

        """
        if request.webhook is not None:
            self._webhooks.check(request.webhook)
        if self._folders.has_arrived(request):
            await asyncio.to_thread(self._folders.take_in, request)
        room = self._housekeeping.room()
        if request.input_bytes > room:
            raise StorageFullError(
                f"the files of jobs take all but {room} bytes of what args.jobs.max_bytes "
                f"allows, and this one has {request.input_bytes}; remove jobs, or allow more",
            )

        def also(connection: sa.Connection, job: Job) -> None:
            self._engine.put_attempt(connection, job.job_id, 1, request.priority)

        job, new = await asyncio.to_thread(self._table.add, request, also)
        if new:
            self._housekeeping.added(request.input_bytes)
            self._engine.wake()
            self._tell("queued", job)
        return self._shown(job)

    async def receive(self, job_id: str, name: str, offset: int, data: bytes) -> None:
        """Append a part of a job's input, before it is submitted. Repeating one does no harm."""
        await asyncio.to_thread(self._folders.receive, job_id, name, offset, data)

    async def get(self, job_id: str) -> Job:
        """Return a job. Raises ``UnknownJobError``."""
        return self._shown(await asyncio.to_thread(self._table.get, job_id))

    async def find(self, wanted: JobFilter) -> JobPage:
        """List jobs, newest first."""
        page = await asyncio.to_thread(self._table.find, wanted)
        return JobPage(tuple(map(self._shown, page.jobs)), page.total)

    async def cancel(self, job_id: str) -> Job:
        """End a job that waits or runs; one that has ended stays as it is.

        Raises:
            UnknownJobError: there is no such job.

        """
        known = await self.get(job_id)
        if known.ended:
            return known
        # Looked up before: once it has ended, somebody may try it again.
        attempts = await asyncio.to_thread(self._engine.attempts, job_id)
        error = ("the job was cancelled", problem_for(CancelledRequestError("")).kind)
        job = await self._end(
            lambda also: self._table.fail(job_id, None, error, also),
        )
        if job is None:
            return await self.get(job_id)
        running = self._running.get(job_id)
        if running is not None:
            running.cancel()
        await asyncio.to_thread(self._engine.cancel, attempts)
        return job

    async def retry(self, job_id: str) -> Job:
        """Try a failed job again, as often as a new one.

        Raises:
            UnknownJobError: there is no such job.
            JobStateError: it has not failed.

        """

        def also(connection: sa.Connection, job: Job) -> None:
            self._engine.put_attempt(connection, job_id, job.attempts + 1, job.request.priority)

        job = await asyncio.to_thread(self._table.retry, job_id, also)
        self._engine.wake()
        self._tell("queued", job)
        return job

    async def remove(self, job_id: str) -> None:
        """Forget a job and remove its files, after ending it. Raises ``UnknownJobError``."""
        await self.cancel(job_id)
        await asyncio.to_thread(self._table.remove, [job_id])
        running = self._running.get(job_id)
        if running is not None:
            await asyncio.wait({running}, timeout=RUN_CHECK_S)  # it may be writing
        await asyncio.to_thread(self._folders.remove, job_id)

    async def watch(self, job_id: str) -> AsyncIterator[Job]:
        """Yield a job as it stands, then after each change, until it has ended.

        Raises:
            UnknownJobError: there is no such job.

        """
        with self._events.of(job_id) as changed:
            last = None
            while True:
                try:
                    job = await self.get(job_id)
                except UnknownJobError:
                    if last is None:
                        raise
                    return  # removed meanwhile
                if job != last:
                    yield job
                if job.ended:
                    return
                last = job
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(changed.wait(), RUN_CHECK_S)
                changed.clear()

    async def files(self, job_id: str) -> tuple[tuple[str, int], ...]:
        """List the files of a job, with their sizes. Raises ``UnknownJobError``."""
        job = await asyncio.to_thread(self._table.get, job_id)
        return await asyncio.to_thread(self._folders.list, job)

    async def read(self, job_id: str, path: str) -> AsyncIterator[bytes]:
        """Yield a file of a job, in parts.

        Raises:
            UnknownJobError: there is no such job.
            PathNotFoundError: it has no such file.

        """
        job = await asyncio.to_thread(self._table.get, job_id)
        parts = await asyncio.to_thread(self._folders.read, job, path)
        while part := await asyncio.to_thread(next, parts, b""):
            yield part

    async def stats(self) -> JobStats:
        """Count jobs, and the places for them."""
        count, size = await asyncio.to_thread(self._table.totals)
        return JobStats(count, size, self._spec.max_concurrent, self._idle())

    async def clean_up(self, older_than_s: float) -> tuple[int, int]:
        """Remove jobs that ended so long ago; return how many, and the bytes of their files."""
        return await asyncio.to_thread(self._housekeeping.remove_ended, older_than_s)

    async def _keep_leading(self) -> None:
        """Lead as soon as, and as long as, no other replica does."""
        loop = asyncio.get_running_loop()
        while True:
            await self._lead.take()
            logger.info("this replica runs jobs now")
            await asyncio.to_thread(self._engine.launch, self._attempt, self._deliver, loop)
            self._events.start()
            self._events.idle(self._idle())
            try:
                async with asyncio.TaskGroup() as group:
                    keeping = [
                        group.create_task(self._housekeeping.run(self._running)),
                        group.create_task(self._watch_running()),
                    ]
                    await self._lead.lost()
                    logger.warning("this replica runs jobs no longer: the database went away")
                    for task in keeping:
                        task.cancel()
            finally:
                self._events.close()  # the broker tells clients apart by their names
                self._lead.release()
                await asyncio.to_thread(self._engine.stop)
                for task in tuple(self._running.values()):
                    task.cancel()

    async def _watch_running(self) -> None:
        """Stop work on jobs that were cancelled, or removed, where this replica did not see it."""
        while True:
            await asyncio.sleep(RUN_CHECK_S)
            for job_id, task in tuple(self._running.items()):
                with contextlib.suppress(SQLAlchemyError):
                    try:
                        job = await asyncio.to_thread(self._table.get, job_id)
                    except UnknownJobError:
                        job = None
                    if job is None or job.ended:
                        task.cancel()

    async def _attempt(self, job_id: str, number: int) -> None:
        """Do one attempt at a job; called by the queue."""
        attempt_id = f"a{number}-{secrets.token_hex(4)}"
        job = await asyncio.to_thread(self._table.start, job_id, number, attempt_id)
        if job is None:
            now = await asyncio.to_thread(self._state_of, job_id)
            if now is None or now.ended:  # whoever ended it may have died before it tidied up
                await asyncio.to_thread(self._folders.tidy, job_id, now)
            return
        work = self._running[job_id] = asyncio.ensure_future(self._work_on(job, attempt_id))
        self._events.idle(self._idle())
        self._tell("started", job)
        try:
            await asyncio.wait({work})
        finally:
            del self._running[job_id]
            self._progress.pop(job_id, None)
            self._events.idle(self._idle())
        # Raises when the table can't be written: the queue notes it, and finds the job later.
        now = None if work.cancelled() else work.result()
        if now is None:  # it ended otherwise, or not at all
            now = await asyncio.to_thread(self._state_of, job_id)
        if work.cancelled() and now is not None and not now.ended:
            raise NodeUnavailableError("this replica ends; the one that leads next does it again")
        if now is None or now.status != "completed" or job.started_at != job.updated_at:
            await asyncio.to_thread(self._folders.tidy, job_id, now)  # there may be leftovers

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
        return await self._end(
            lambda also: self._table.complete(job.job_id, attempt_id, outcome, also),
        )

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
        kind = problem_for(error).kind
        passing = isinstance(error, NodeError | ToolFailedError)
        logger.warning("attempt %s at job %s failed: %s", attempt_id, job.job_id, error)
        if passing:
            delay_s = min(self._spec.retry_delay_s * _BACK_OFF ** (job.attempts - 1), MAX_DELAY_S)

            def again(connection: sa.Connection, waiting: Job) -> None:
                self._engine.put_attempt(
                    connection, job.job_id, job.attempts + 1, waiting.request.priority, delay_s
                )

            waiting = await asyncio.to_thread(
                self._table.put_back, job.job_id, attempt_id, str(error), kind, again
            )
            if waiting is not None:
                self._tell("queued", waiting)
                return waiting
        return await self._end(
            lambda also: self._table.fail(
                job.job_id, attempt_id, (str(error), kind), also, dead_letter=passing
            ),
        )

    async def _end(
        self,
        change: Callable[[Also], Job | None],
    ) -> Job | None:
        """End a job, put its webhook into the queue, and tell; None if it had ended before."""

        def also(connection: sa.Connection, job: Job) -> None:
            if job.request.webhook is not None:
                self._engine.put_webhook(connection, job.job_id, 1)

        job = await asyncio.to_thread(change, also)
        if job is not None:
            self._engine.wake()
            self._tell("completed" if job.status == "completed" else "failed", job)
        return job

    async def _deliver(self, job_id: str, number: int) -> None:
        """Deliver a webhook once; called by the queue."""
        job = await asyncio.to_thread(self._state_of, job_id)
        if job is None or job.request.webhook is None or not job.ended:
            return  # removed, or tried again: its next end is told
        try:
            await self._webhooks.send(job.request.webhook, job)
        except NodeError as error:
            logger.warning("delivery %d for job %s failed: %s", number, job_id, error)
            if number < WEBHOOK_ATTEMPTS:
                delay_s = WEBHOOK_DELAY_S * _BACK_OFF ** (number - 1)
                await asyncio.to_thread(
                    self._table.in_transaction,
                    lambda connection: self._engine.put_webhook(
                        connection, job_id, number + 1, delay_s
                    ),
                )

        except ClServeError as error:
            logger.warning("no webhook for job %s: %s", job_id, error)

    def _state_of(self, job_id: str) -> Job | None:
        """Return a job, or None when it was removed. Blocks."""
        try:
            return self._table.get(job_id)
        except UnknownJobError:
            return None

    def _moved(self, job: Job, progress: Progress) -> None:
        # Never backwards, and 100 only when it is completed.
        percent = min(99.0, progress.percent)
        if percent > self._progress.get(job.job_id, 0.0):
            self._progress[job.job_id] = percent
            self._tell("progress", job)

    def _shown(self, job: Job) -> Job:
        return job.with_progress(self._progress.get(job.job_id, 0.0))

    def _idle(self) -> int:
        return max(0, self._spec.max_concurrent - len(self._running))

    def _tell(self, kind: Kind, job: Job) -> None:
        self._events.publish(kind, self._shown(job))
