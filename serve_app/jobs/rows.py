"""The rows of the table of jobs: their columns, and how a job becomes one and is read from one."""

import json
import time
from dataclasses import asdict
from typing import Any

import sqlalchemy as sa
from pydantic import TypeAdapter

from serve_app.jobs.job import Job, JobRequest, Outcome

METADATA = sa.MetaData()
TABLE = sa.Table(
    "jobs",
    METADATA,
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

_request = TypeAdapter(JobRequest)
_outcome = TypeAdapter(Outcome)


def now_ms() -> int:
    """Milliseconds since 1970."""
    return int(time.time() * 1000)


def row_of(request: JobRequest, max_attempts: int) -> dict[str, Any]:
    """Make the row of a new job."""
    now = now_ms()
    return {
        "job_id": request.job_id,
        "task": request.task,
        "status": "queued",
        "request": asdict(request),
        "max_attempts": max_attempts,
        "batch_id": request.batch_id,
        "idempotency_key": request.idempotency_key,
        "bytes": request.input_bytes,
        "created_at": now,
        "updated_at": now,
    }


def job_of(row: sa.Row[Any]) -> Job:
    """Read a job from its row."""
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


def substance(request: JobRequest) -> str:
    """What two submissions of one job have in common."""
    return json.dumps([request.task, request.outputs, request.params, request.input_bytes])
