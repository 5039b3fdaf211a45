"""The table of jobs: what everybody sees of them, in SQLite or PostgreSQL.

Every change of state is one ``UPDATE`` that names the states, and the attempt, that it may follow.
So it does not matter who comes late or twice, a runner that died and came back for example: a job
ends once, with the result of one attempt. What has to happen with a change (a place in the queue,
a webhook) is written in the same transaction.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from deployments.runtime.errors import (
    InvalidParameterError,
    JobStateError,
    OverloadedError,
    UnknownJobError,
)
from serve_app.jobs.database import explained
from serve_app.jobs.job import Job, JobFilter, JobPage, JobRequest, JobStatus, Outcome
from serve_app.jobs.rows import METADATA, TABLE, job_of, now_ms, row_of, substance

_ACTIVE: tuple[JobStatus, ...] = ("queued", "in_progress")

# Made once: making a statement takes SQLAlchemy longer than running it.
_GET = sa.select(TABLE).where(TABLE.c.job_id == sa.bindparam("id"))
_SAME = sa.select(TABLE).where(
    (TABLE.c.job_id == sa.bindparam("id"))
    | (TABLE.c.idempotency_key == sa.bindparam("key", type_=sa.String)),
)
_COUNT_QUEUED = sa.select(sa.func.count()).where(TABLE.c.status == "queued")
_INSERT = TABLE.insert().returning(TABLE)

Also = Callable[[sa.Connection, Job], object]
"""What is to be written in the same transaction as a change, with the job as it is then."""


class JobTable:
    """The jobs of one database. Methods block; any number of processes may use one table."""

    def __init__(self, engine: sa.Engine, *, max_queued: int, max_attempts: int) -> None:
        """Make the table, unless it is there."""
        self.engine = engine
        self._max_queued = max_queued
        self._max_attempts = max_attempts
        METADATA.create_all(engine)

    def add(self, request: JobRequest, also: Also) -> tuple[Job, bool]:
        """Add a job; return it and whether it is new.

        The same ``job_id`` again, or the same idempotency key, gives the job that there is.

        Raises:
            InvalidParameterError: the idempotency key was used for something else.
            OverloadedError: too many jobs wait already.

        """
        try:
            return self._add(request, also)
        except IntegrityError:  # somebody else has just submitted the same
            return self._add(request, also)

    def get(self, job_id: str) -> Job:
        """Return a job. Raises ``UnknownJobError``."""
        with self._reading() as connection:
            return self._get(connection, job_id)

    def find(self, wanted: JobFilter) -> JobPage:
        """List jobs, newest first."""
        conditions = [
            column == value
            for column, value in (
                (TABLE.c.status, wanted.status),
                (TABLE.c.task, wanted.task),
                (TABLE.c.batch_id, wanted.batch_id),
                (TABLE.c.dead_letter, wanted.dead_letter),
            )
            if value is not None
        ]
        matching = sa.select(TABLE).where(*conditions)
        with self._reading() as connection:
            total = connection.scalar(
                sa.select(sa.func.count()).select_from(TABLE).where(*conditions),
            )
            rows = connection.execute(
                matching.order_by(TABLE.c.created_at.desc(), TABLE.c.job_id)
                .limit(wanted.limit)
                .offset(wanted.offset),
            )
            return JobPage(tuple(job_of(row) for row in rows), total or 0)

    def start(self, job_id: str, number: int, attempt_id: str) -> Job | None:
        """Begin an attempt, or begin it anew after its runner died.

        Returns:
            The job, or None when there is nothing to do any more.

        """
        first = (TABLE.c.status == "queued") & (TABLE.c.attempts == number - 1)
        anew = (TABLE.c.status == "in_progress") & (TABLE.c.attempts == number)
        may = (first | anew,)
        now = now_ms()
        return self._change(
            job_id,
            may,
            {
                "status": "in_progress",
                "attempts": number,
                "attempt_id": attempt_id,
                "started_at": sa.func.coalesce(TABLE.c.started_at, now),
                "updated_at": now,
            },
        )

    def complete(self, job_id: str, attempt_id: str, outcome: Outcome, also: Also) -> Job | None:
        """End a job with what an attempt gave; None when that attempt does not count any more."""
        now = now_ms()
        return self._change(
            job_id,
            _under_way(attempt_id),
            {
                "status": "completed",
                "outcome": asdict(outcome),
                "error": None,
                "error_kind": None,
                "bytes": TABLE.c.bytes + outcome.output_bytes,
                "updated_at": now,
                "completed_at": now,
            },
            also,
        )

    def put_back(
        self,
        job_id: str,
        attempt_id: str,
        error: str,
        error_kind: str,
        also: Also,
    ) -> Job | None:
        """Let a job wait for its next attempt, if it has one left and this one counts."""
        may = (*_under_way(attempt_id), TABLE.c.attempts < TABLE.c.max_attempts)
        values = {"status": "queued", "error": error, "error_kind": error_kind}
        return self._change(job_id, may, values, also)

    def fail(
        self,
        job_id: str,
        attempt_id: str | None,
        error: tuple[str, str],
        also: Also,
        *,
        dead_letter: bool = False,
    ) -> Job | None:
        """End a job with an error and its kind; None when there is nothing to end any more.

        Args:
            job_id: the job.
            attempt_id: the attempt that failed, or None for whatever it is doing.
            error: what to tell people, and its kind.
            also: what to write along.
            dead_letter: whether it failed for reasons that may pass.

        """
        may = (TABLE.c.status.in_(_ACTIVE),) if attempt_id is None else _under_way(attempt_id)
        now = now_ms()
        values = {
            "status": "failed",
            "error": error[0],
            "error_kind": error[1],
            "dead_letter": dead_letter,
            "updated_at": now,
            "completed_at": now,
        }
        return self._change(job_id, may, values, also)

    def retry(self, job_id: str, also: Also) -> Job:
        """Let a failed job wait for new attempts.

        Raises:
            UnknownJobError: there is no such job.
            JobStateError: it has not failed.

        """
        values = {
            "status": "queued",
            "error": None,
            "error_kind": None,
            "dead_letter": False,
            "completed_at": None,
            "max_attempts": TABLE.c.attempts + self._max_attempts,
        }
        job = self._change(job_id, (TABLE.c.status == "failed",), values, also)
        if job is None:
            status = self.get(job_id).status
            raise JobStateError(f"job {job_id} is {status}; only failed jobs are tried again")
        return job

    def remove(self, job_ids: Sequence[str]) -> None:
        """Forget jobs."""
        with self._writing() as connection:
            connection.execute(TABLE.delete().where(TABLE.c.job_id.in_(job_ids)))

    def in_transaction(self, write: Callable[[sa.Connection], object]) -> None:
        """Write something else to the same database."""
        with self._writing() as connection:
            write(connection)

    def expired(self, before_ms: int, limit: int) -> list[str]:
        """List jobs that ended before a time."""
        return self._ids(TABLE.c.completed_at < before_ms, limit)

    def ended_between(self, after_ms: int, until_ms: int, limit: int) -> list[Job]:
        """List jobs that ended within a time, in order; not those that one attempt completed."""
        found = (
            sa.select(TABLE)
            .where(
                TABLE.c.completed_at > after_ms,
                TABLE.c.completed_at <= until_ms,
                sa.or_(TABLE.c.status != "completed", TABLE.c.attempts > 1),
            )
            .order_by(TABLE.c.completed_at)
        )
        with self._reading() as connection:
            return [job_of(row) for row in connection.execute(found.limit(limit))]

    def idle_since(self, before_ms: int, limit: int) -> list[Job]:
        """List jobs that have not ended and of which nothing was heard since a time."""
        found = sa.select(TABLE).where(
            TABLE.c.status.in_(_ACTIVE),
            TABLE.c.updated_at < before_ms,
        )
        with self._reading() as connection:
            return [job_of(row) for row in connection.execute(found.limit(limit))]

    def known(self, job_ids: Sequence[str]) -> set[str]:
        """Say which of these jobs there are."""
        return set(self._ids(TABLE.c.job_id.in_(job_ids), len(job_ids)))

    def totals(self) -> tuple[int, int]:
        """Return how many jobs there are, and the bytes of all their files."""
        with self._reading() as connection:
            count, size = connection.execute(
                sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(TABLE.c.bytes), 0)),
            ).one()
            return count, int(size)

    def _add(self, request: JobRequest, also: Also) -> tuple[Job, bool]:
        with self._writing() as connection:
            known = self._known(connection, request)
            if known is not None:
                return known, False
            queued = connection.scalar(_COUNT_QUEUED) or 0
            if queued >= self._max_queued:
                raise OverloadedError(
                    f"{queued} jobs wait already, which is what args.jobs.max_queued allows; "
                    "submit again later",
                )
            job = job_of(connection.execute(_INSERT, row_of(request, self._max_attempts)).one())
            also(connection, job)
            return job, True

    def _ids(self, condition: sa.ColumnElement[bool], limit: int) -> list[str]:
        with self._reading() as connection:
            found = connection.execute(sa.select(TABLE.c.job_id).where(condition).limit(limit))
            return [row.job_id for row in found]

    def _known(self, connection: sa.Connection, request: JobRequest) -> Job | None:
        """Return the job that a request was submitted as before."""
        same = {"id": request.job_id, "key": request.idempotency_key}
        row = connection.execute(_SAME, same).first()
        if row is None:
            return None
        job = job_of(row)
        if substance(job.request) != substance(request):
            raise InvalidParameterError(
                f"the idempotency key {request.idempotency_key!r} was used for another job, "
                f"{job.job_id}; use a new key for a new job",
            )
        return job

    def _get(self, connection: sa.Connection, job_id: str) -> Job:
        row = connection.execute(_GET, {"id": job_id}).first()
        if row is None:
            raise UnknownJobError(
                f"there is no job {job_id!r}; ended jobs are removed after a time",
            )
        return job_of(row)

    def _change(
        self,
        job_id: str,
        may: Sequence[sa.ColumnElement[bool]],
        values: dict[str, Any],
        also: Also | None = None,
    ) -> Job | None:
        """Change a job if it is in a state that allows it; return it as it is then."""
        with self._writing() as connection:
            row = connection.execute(
                TABLE.update()
                .where(TABLE.c.job_id == job_id, *may)
                .values({"updated_at": now_ms(), **values})
                .returning(TABLE),
            ).first()
            if row is None:
                return None
            job = job_of(row)
            if also is not None:
                also(connection, job)
            return job

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        with explained(), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        """Open a transaction."""
        with explained(), self.engine.begin() as connection:
            yield connection


def _under_way(attempt_id: str) -> tuple[sa.ColumnElement[bool], ...]:
    return (TABLE.c.status == "in_progress", TABLE.c.attempt_id == attempt_id)
