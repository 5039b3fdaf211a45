"""Jobs in each of their states, for tests of what tells of them."""

from dataclasses import replace
from typing import Any

from serve_app.jobs.job import Job, JobRequest, Outcome

QUEUED = Job(
    request=JobRequest(
        job_id="0b9f7c1e-6a52-4b57-9c3c-3f1f2f1f6f10",
        task="image_conversion",
        outputs=("image_conversion",),
        params={"format": "png", "quality": "85"},
        input_name="photo.jpg",
        priority=7,
        batch_id="holiday",
    ),
    status="queued",
    progress=0.0,
    attempts=0,
    attempt_id=None,
    outcome=None,
    error=None,
    error_kind=None,
    dead_letter=False,
    created_at=1_000,
    updated_at=1_000,
    started_at=None,
    completed_at=None,
)
STARTED = replace(QUEUED, status="in_progress", attempts=1, started_at=2_000, updated_at=2_000)
MOVING = replace(STARTED, progress=37.9, updated_at=3_000)
COMPLETED = replace(
    MOVING,
    status="completed",
    progress=100.0,
    outcome=Outcome({"media_type": "image/png"}, {"output_path": "output/converted_photo.png"}),
    updated_at=4_000,
    completed_at=4_000,
)
FAILED = replace(
    MOVING,
    status="failed",
    error="'photo.jpg' is cut off",
    error_kind="corrupt-media",
    dead_letter=True,
    updated_at=5_000,
    completed_at=5_000,
)


def named(job: Job, job_id: str, **changes: Any) -> Job:  # noqa: ANN401 - any field of a job
    """Give the same job with another id."""
    return replace(job, request=replace(job.request, job_id=job_id), **changes)
