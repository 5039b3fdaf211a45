"""The table of jobs: what everybody sees of them, in SQLite or PostgreSQL.

Every change of state is one ``UPDATE`` that names the states, and the attempt, that it may follow.
So it does not matter who comes late or twice, a runner that died and came back for example: a job
ends once, with the result of one attempt. What has to happen with a change (a place in the queue,
a webhook) is written in the same transaction.
"""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import sqlalchemy as sa
from pydantic import TypeAdapter
from sqlalchemy.exc import IntegrityError

from deployments.runtime.errors import (
    InvalidParameterError,
    JobStateError,
    OverloadedError,
    UnknownJobError,
)
from serve_app.jobs.database import explained
from serve_app.jobs.job import Job, JobFilter, JobPage, JobRequest, JobStatus, Outcome

_ACTIVE: tuple[JobStatus, ...] = ("queued", "in_progress")

_metadata = sa.MetaData()
_jobs = sa.Table(
    "jobs",
    _metadata,
    sa.Column("job_id", sa.String, primary_key=True),
    sa.Column("task", sa.String, nullable=False),
    sa.Column("status", sa.String, nullable=False),
    sa.Column("request", sa.JSON, nullable=False),
    sa.Column("outcome", sa.JSON(none_as_null=True)),
    sa.Column("attempts", sa.Integer, nullable=False, default=0),
    sa.Column("max_attempts", sa.Integer, nullable=False),
    sa.Column("attempt_id", sa.String),
    sa.Column("error", sa.String),
    sa.Column("error_kind", sa.String),
    sa.Column("dead_letter", sa.Boolean, nullable=False, default=False),
    sa.Column("batch_id", sa.String, index=True),
    sa.Column("idempotency_key", sa.String, unique=True),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("updated_at", sa.BigInteger, nullable=False),
    sa.Column("started_at", sa.BigInteger),
    sa.Column("completed_at", sa.BigInteger, index=True),
    sa.Index("jobs_by_status", "status", "created_at"),
    sa.Index("jobs_by_task", "task", "created_at"),
    sa.Index("jobs_by_age", "created_at"),
    sa.Index("jobs_dead", "dead_letter", "created_at"),
)

# Made once: making a statement takes SQLAlchemy longer than running it.
_GET = sa.select(_jobs).where(_jobs.c.job_id == sa.bindparam("id"))
_SAME = sa.select(_jobs).where(
    (_jobs.c.job_id == sa.bindparam("id"))
    | (_jobs.c.idempotency_key == sa.bindparam("key", type_=sa.String)),
)
_COUNT_QUEUED = sa.select(sa.func.count()).where(_jobs.c.status == "queued")
_INSERT = _jobs.insert().returning(_jobs)

_request = TypeAdapter(JobRequest)
_outcome = TypeAdapter(Outcome)

Also = Callable[[sa.Connection, Job], object]
"""What is to be written in the same transaction as a change, with the job as it is then."""


class JobTable:
    """The jobs of one database. Methods block; any number of processes may use one table."""

    def __init__(self, engine: sa.Engine, *, max_queued: int, max_attempts: int) -> None:
        """Make the table, unless it is there."""
        self.engine = engine
        self._max_queued = max_queued
        self._max_attempts = max_attempts
        _metadata.create_all(engine)

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
                (_jobs.c.status, wanted.status),
                (_jobs.c.task, wanted.task),
                (_jobs.c.batch_id, wanted.batch_id),
                (_jobs.c.dead_letter, wanted.dead_letter),
            )
            if value is not None
        ]
        matching = sa.select(_jobs).where(*conditions)
        with self._reading() as connection:
            total = connection.scalar(
                sa.select(sa.func.count()).select_from(_jobs).where(*conditions),
            )
            rows = connection.execute(
                matching.order_by(_jobs.c.created_at.desc(), _jobs.c.job_id)
                .limit(wanted.limit)
                .offset(wanted.offset),
            )
            return JobPage(tuple(_job(row) for row in rows), total or 0)

    def start(self, job_id: str, number: int, attempt_id: str) -> Job | None:
        """Begin an attempt, or begin it anew after its runner died.

        Returns:
            The job, or None when there is nothing to do any more.

        """
        first = (_jobs.c.status == "queued") & (_jobs.c.attempts == number - 1)
        anew = (_jobs.c.status == "in_progress") & (_jobs.c.attempts == number)
        may = (first | anew,)
        now = now_ms()
        return self._change(
            job_id,
            may,
            {
                "status": "in_progress",
                "attempts": number,
                "attempt_id": attempt_id,
                "started_at": sa.func.coalesce(_jobs.c.started_at, now),
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
                "bytes": _jobs.c.bytes + outcome.output_bytes,
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
        may = (*_under_way(attempt_id), _jobs.c.attempts < _jobs.c.max_attempts)
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
        may = (_jobs.c.status.in_(_ACTIVE),) if attempt_id is None else _under_way(attempt_id)
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
            "max_attempts": _jobs.c.attempts + self._max_attempts,
        }
        job = self._change(job_id, (_jobs.c.status == "failed",), values, also)
        if job is None:
            status = self.get(job_id).status
            raise JobStateError(f"job {job_id} is {status}; only failed jobs are tried again")
        return job

    def remove(self, job_ids: Sequence[str]) -> None:
        """Forget jobs."""
        with self._writing() as connection:
            connection.execute(_jobs.delete().where(_jobs.c.job_id.in_(job_ids)))

    def in_transaction(self, write: Callable[[sa.Connection], object]) -> None:
        """Write something else to the same database."""
        with self._writing() as connection:
            write(connection)

    def expired(self, before_ms: int, limit: int) -> list[str]:
        """List jobs that ended before a time."""
        return self._ids(_jobs.c.completed_at < before_ms, limit)

    def idle_since(self, before_ms: int, limit: int) -> list[Job]:
        """List jobs that have not ended and of which nothing was heard since a time."""
        found = sa.select(_jobs).where(
            _jobs.c.status.in_(_ACTIVE),
            _jobs.c.updated_at < before_ms,
        )
        with self._reading() as connection:
            return [_job(row) for row in connection.execute(found.limit(limit))]

    def known(self, job_ids: Sequence[str]) -> set[str]:
        """Say which of these jobs there are."""
        return set(self._ids(_jobs.c.job_id.in_(job_ids), len(job_ids)))

    def totals(self) -> tuple[int, int]:
        """Return how many jobs there are, and the bytes of all their files."""
        with self._reading() as connection:
            count, size = connection.execute(
                sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(_jobs.c.bytes), 0)),
            ).one()
            return count, int(size)

    def _add(self, request: JobRequest, also: Also) -> tuple[Job, bool]:
        now = now_ms()
        row = {
            "job_id": request.job_id,
            "task": request.task,
            "status": "queued",
            "request": asdict(request),
            "max_attempts": self._max_attempts,
            "batch_id": request.batch_id,
            "idempotency_key": request.idempotency_key,
            "bytes": request.input_bytes,
            "created_at": now,
            "updated_at": now,
        }
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
            job = _job(connection.execute(_INSERT, row).one())
            also(connection, job)
            return job, True

    def _ids(self, condition: sa.ColumnElement[bool], limit: int) -> list[str]:
        with self._reading() as connection:
            found = connection.execute(sa.select(_jobs.c.job_id).where(condition).limit(limit))
            return [row.job_id for row in found]

    def _known(self, connection: sa.Connection, request: JobRequest) -> Job | None:
        """Return the job that a request was submitted as before."""
        same = {"id": request.job_id, "key": request.idempotency_key}
        row = connection.execute(_SAME, same).first()
        if row is None:
            return None
        job = _job(row)
        if _substance(job.request) != _substance(request):
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
        return _job(row)

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
                _jobs.update()
                .where(_jobs.c.job_id == job_id, *may)
                .values({"updated_at": now_ms(), **values})
                .returning(_jobs),
            ).first()
            if row is None:
                return None
            job = _job(row)
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


def now_ms() -> int:
    """Milliseconds since 1970."""
    return int(time.time() * 1000)


def _under_way(attempt_id: str) -> tuple[sa.ColumnElement[bool], ...]:
    return (_jobs.c.status == "in_progress", _jobs.c.attempt_id == attempt_id)


def _substance(request: JobRequest) -> str:
    """What two submissions of one job have in common."""
    return json.dumps([request.task, request.outputs, request.params, request.input_bytes])


def _job(row: sa.Row[Any]) -> Job:
    return Job(
        request=_request.validate_python(row.request),
        status=row.status,
        progress=100.0 if row.status == "completed" else 0.0,
        attempts=row.attempts,
        attempt_id=row.attempt_id,
        outcome=None if row.outcome is None else _outcome.validate_python(row.outcome),
        error=row.error,
        error_kind=row.error_kind,
        dead_letter=row.dead_letter,
        created_at=row.created_at,
        updated_at=row.updated_at,
        started_at=row.started_at,
        completed_at=row.completed_at,
    )
