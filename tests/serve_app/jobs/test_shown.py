"""A job as clients see it."""

import json
from typing import Any

import pytest

from serve_app.jobs.job import Job
from serve_app.jobs.shown import shown
from tests.serve_app.jobs.example_jobs import COMPLETED, FAILED, MOVING, QUEUED

SAME = {
    "job_id": QUEUED.job_id,
    "task_type": "image_conversion",
    "params": {"format": "png", "quality": "85"},
    "priority": 7,
    "created_at": 1_000,
    "batch_id": "holiday",
    "task_output": None,
    "error_message": None,
    "error_kind": None,
    "dead_letter": False,
    "started_at": None,
    "completed_at": None,
}


@pytest.mark.parametrize(
    ("job", "own"),
    [
        (QUEUED, {"status": "queued", "progress": 0, "attempts": 0, "updated_at": 1_000}),
        (
            MOVING,
            {
                "status": "in_progress",
                "progress": 37,
                "attempts": 1,
                "started_at": 2_000,
                "updated_at": 3_000,
            },
        ),
        (
            COMPLETED,
            {
                "status": "completed",
                "progress": 100,
                "attempts": 1,
                "params": {
                    "format": "png",
                    "quality": "85",
                    "output_path": "output/converted_photo.png",
                },
                "task_output": {"media_type": "image/png"},
                "started_at": 2_000,
                "updated_at": 4_000,
                "completed_at": 4_000,
            },
        ),
        (
            FAILED,
            {
                "status": "failed",
                "progress": 37,
                "attempts": 1,
                "error_message": "'photo.jpg' is cut off",
                "error_kind": "corrupt-media",
                "dead_letter": True,
                "started_at": 2_000,
                "updated_at": 5_000,
                "completed_at": 5_000,
            },
        ),
    ],
    ids=["queued", "moving", "completed", "failed"],
)
def test_each_state(job: Job, own: dict[str, Any]) -> None:
    """All fields are there in every state, and their numbers are whole."""
    text = json.dumps(SAME | own, sort_keys=True)
    assert text == json.dumps(shown(job), sort_keys=True)
