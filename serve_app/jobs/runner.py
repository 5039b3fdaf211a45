"""The ``jobs`` deployment: takes jobs, has them worked on in their order, tells who waits.

It computes nothing. For each attempt it calls an ingress, which has the graph; so a job that kills
the process that works on it does not kill the queue. Its methods are called over handles, by the
ingresses and by Python clients; ``remote_runner.py`` is their end of it.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence

import sqlalchemy as sa

from deployments.runtime.errors import (
    CancelledRequestError,
    StorageFullError,
    UnknownJobError,
)
from serve_app.http.problems import problem_for
from serve_app.jobs.attempts import LOOK_S, Attempts
from serve_app.jobs.database import open_database
from serve_app.jobs.engine import Engine
from serve_app.jobs.events import Events
from serve_app.jobs.folders import JobFolders
from serve_app.jobs.housekeeping import Housekeeping
from serve_app.jobs.job import Job, JobFilter, JobPage, JobRequest, JobStats
from serve_app.jobs.lead import DatabaseLead, FileLead, Lead
from serve_app.jobs.table import JobTable
from serve_app.jobs.webhooks import Webhooks
from serve_app.jobs.workers import RemoteWorker, Worker
from serve_app.logs import set_up_logs
from serve_app.schema import EventsSpec, JobsSpec
from serve_app.stores import jobs_folder, open_job_files

logger = logging.getLogger("ray.serve")


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
        self._housekeeping = Housekeeping(self._table, self._engine, self._folders, spec)
        self._attempts = Attempts(
            spec,
            self._table,
            self._engine,
            self._folders,
            self._housekeeping,
            events=self._events,
            webhooks=self._webhooks,
            worker=worker or RemoteWorker(),
        )
        self._lead: Lead = (
            FileLead(folder / "runner.lock") if spec.database is None else DatabaseLead(database)
        )
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
            self._attempts.tell("queued", job)
        return self._attempts.shown(job)

    async def receive(self, job_id: str, name: str, offset: int, data: bytes) -> None:
        """Append a part of a job's input, before it is submitted. Repeating one does no harm."""
        await asyncio.to_thread(self._folders.receive, job_id, name, offset, data)

    async def get(self, job_id: str) -> Job:
        """Return a job. Raises ``UnknownJobError``."""
        return self._attempts.shown(await asyncio.to_thread(self._table.get, job_id))

    async def find(self, wanted: JobFilter) -> JobPage:
        """List jobs, newest first."""
        page = await asyncio.to_thread(self._table.find, wanted)
        return JobPage(tuple(map(self._attempts.shown, page.jobs)), page.total)

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
        job = await self._attempts.end(
            lambda also: self._table.fail(job_id, None, error, also),
        )
        if job is None:
            return await self.get(job_id)
        running = self._attempts.running.get(job_id)
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
        self._attempts.tell("queued", job)
        return job

    async def remove(self, job_id: str) -> None:
        """Forget a job and remove its files, after ending it. Raises ``UnknownJobError``."""
        await self.cancel(job_id)
        await asyncio.to_thread(self._table.remove, [job_id])
        running = self._attempts.running.get(job_id)
        if running is not None:
            await asyncio.wait({running}, timeout=LOOK_S)  # it may be writing
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
                    await asyncio.wait_for(changed.wait(), LOOK_S)
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
        return JobStats(count, size, self._spec.max_concurrent, self._attempts.idle)

    async def clean_up(self, older_than_s: float) -> tuple[int, int]:
        """Remove jobs that ended so long ago; return how many, and the bytes of their files."""
        return await asyncio.to_thread(self._housekeeping.remove_ended, older_than_s)

    async def _keep_leading(self) -> None:
        """Lead as soon as, and as long as, no other replica does."""
        loop = asyncio.get_running_loop()
        while True:
            await self._lead.take()
            logger.info("this replica runs jobs now")
            await asyncio.to_thread(
                self._engine.launch, self._attempts.attempt, self._attempts.deliver, loop
            )
            self._events.start()
            self._attempts.tell_idle()
            try:
                async with asyncio.TaskGroup() as group:
                    keeping = [
                        group.create_task(self._housekeeping.run(self._attempts.running)),
                        group.create_task(self._attempts.stop_what_ended()),
                    ]
                    await self._lead.lost()
                    logger.warning("this replica runs jobs no longer: the database went away")
                    for task in keeping:
                        task.cancel()
            finally:
                self._events.close()  # the broker tells clients apart by their names
                self._lead.release()
                await asyncio.to_thread(self._engine.stop)
                for task in tuple(self._attempts.running.values()):
                    task.cancel()
