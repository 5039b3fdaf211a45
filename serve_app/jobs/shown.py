"""A job as JSON: what clients get over HTTP, in events and in webhooks.

The names, and that numbers are whole, are those of the original system's job protocol: its
clients refuse a progress with a decimal point.
"""

from typing import Any

from serve_app.jobs.job import Job


def shown(job: Job) -> dict[str, Any]:
    """Show a job as ``GET /jobs/{id}`` does.

    Returns:
        Plain JSON. ``progress`` is a whole number from 0 to 100, rounded down, so that 100 means
        completed; times are milliseconds since 1970 in UTC; ``params`` are those that were given
        and those that the work added.

    """
    request = job.request
    return {
        "job_id": job.job_id,
        "task_type": request.task,
        "status": job.status,
        "progress": int(job.progress),
        "params": request.params | (job.outcome.params if job.outcome else {}),
        "task_output": job.outcome.task_output if job.outcome else None,
        "error_message": job.error,
        "priority": request.priority,
        "created_at": job.created_at,
        "updated_at": job.updated_at,
        "started_at": job.started_at,
        "completed_at": job.completed_at,
        "error_kind": job.error_kind,
        "dead_letter": job.dead_letter,
        "attempts": job.attempts,
        "batch_id": request.batch_id,
    }
