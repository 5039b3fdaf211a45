"""What users do to jobs: order them, end them, try them again, clean up."""

from http import HTTPStatus
from pathlib import Path

import pytest

from tests.jobs.blocking import all_places_taken, submit_stream
from tests.jobs.clients import Post, Service, ended, wait_until
from tests.jobs.listening import Receiver
from tests.jobs.orders import Samples
from tests.jobs.systems import JobsMachine, encoders

pytestmark = [pytest.mark.jobs, pytest.mark.timeout(600)]


def test_priority(machine: JobsMachine, service: Service, video: Path, post: Post) -> None:
    """The most urgent, 0, is first, and among equals the oldest."""
    priorities = [0, 5, 10, 3, 10, 7, 0, 5]
    expected = [0, 6, 3, 1, 7, 5, 2, 4]
    with all_places_taken(machine, service, video) as blocking:
        ids = [post("exif", priority=str(priority)).json()["job_id"] for priority in priorities]
        service.cancel(blocking[0])  # gives one place, for one after another
        jobs = [ended(service, job_id) for job_id in ids]
    began = sorted(jobs, key=lambda job: job["started_at"])
    assert expected == [ids.index(job["job_id"]) for job in began]


def test_cancelled_stream(machine: JobsMachine, service: Service, video: Path) -> None:
    """The encoder of a cancelled job ends, and none of its files stays but what was sent."""
    job_id = submit_stream(service, video)
    wait_until(lambda: encoders(machine.processes()))
    service.cancel(job_id)
    wait_until(lambda: not encoders(machine.processes()))
    assert "cancelled" == ended(service, job_id)["error_kind"]
    folder = machine.jobs / "files" / job_id
    wait_until(lambda: ["input"] == [path.name for path in folder.iterdir()])


def test_retry_of_a_cancelled_job(
    machine: JobsMachine, service: Service, video: Path, post: Post
) -> None:
    """A job that was cancelled while it waited is done when it is tried again."""
    with all_places_taken(machine, service, video):
        job_id = post("hash").json()["job_id"]
        service.cancel(job_id)
    retried = service.ask("POST", f"/jobs/{job_id}/retry").json()
    assert "queued" == retried["status"]
    assert "completed" == ended(service, job_id)["status"]


def test_webhook_after_retry(
    service: Service, samples: Samples, receiver: Receiver, post: Post
) -> None:
    """Each end of a job is told: the failure, and the one after it was tried again."""
    form = {"width": "64", "webhook": receiver.url}
    job_id = post("media_thumbnail", samples.damaged, **form).json()["job_id"]
    wait_until(lambda: len(receiver.deliveries[job_id]) == 1)
    assert "failed" == ended(service, job_id)["status"]
    service.ask("POST", f"/jobs/{job_id}/retry")
    wait_until(lambda: len(receiver.deliveries[job_id]) == 2)
    assert 2 == len(set(receiver.deliveries[job_id]))
    assert 2 == service.get(f"/jobs/{job_id}")["attempts"]


def test_key_after_a_restart(
    machine: JobsMachine, service: Service, video: Path, samples: Samples, post: Post
) -> None:
    """A key gives the same job after the runner died, and another file needs another key."""
    with all_places_taken(machine, service, video):
        first = post("hash", key="once").json()["job_id"]
        machine.kill("jobs")
        assert first == post("hash", key="once").json()["job_id"]
    assert "completed" == ended(service, first)["status"]
    refused = post("hash", samples.face, key="once")
    assert HTTPStatus.UNPROCESSABLE_ENTITY == refused.status_code


def test_clean_up(machine: JobsMachine, service: Service, post: Post) -> None:
    """Ended jobs go with their files when their time is over; their keys are free again."""
    first = post("hash", key="kept").json()["job_id"]
    ended(service, first)
    assert service.ask("DELETE", "/admin/jobs/cleanup?days=0").json()["deleted_count"]
    assert HTTPStatus.NOT_FOUND == service.ask("GET", f"/jobs/{first}").status_code
    assert not (machine.jobs / "files" / first).exists()
    assert first != post("hash", key="kept").json()["job_id"]
