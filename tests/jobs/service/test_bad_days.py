"""What the guide promises for bad days: full disks, locked databases, clients that vanish."""

import os
import socket
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest

from serve_app.jobs.database import BUSY_TIMEOUT_S
from tests.cluster.figures import say
from tests.jobs.blocking import submit_stream
from tests.jobs.clients import Post, Service, ended, wait_until
from tests.jobs.memory import Memory
from tests.jobs.orders import Samples
from tests.jobs.systems import PHOTO, JobsMachine, encoders
from tests.mosquitto import Mosquitto

pytestmark = [pytest.mark.jobs, pytest.mark.timeout(600)]

PROBLEM = "urn:cl-ml-serve:problem:"

DISK_BYTES = 4 * 2**20
"""Of the disk that is filled."""

UPLOAD_BYTES = 2**30
MAX_GROWTH_BYTES = 150 * 2**20
"""Of the memory of one process meanwhile."""

BATCH_FILES = 20
LOST_S = 90.0
"""A job that was lost with the database is found within 50 s."""


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """Put a small empty disk over a folder for the block; give a file on it that fills it."""
    if os.geteuid() != 0:
        pytest.skip("a small disk needs root; run `sudo make test-jobs`")
    folder.mkdir(parents=True, exist_ok=True)
    options = ("-t", "tmpfs", "-o", f"size={DISK_BYTES}", "none")
    subprocess.run(["mount", *options, folder], check=True)  # noqa: S607 - of the system
    try:
        filler = folder / "filler"
        with filler.open("wb", buffering=0) as file, suppress(OSError):
            while file.write(bytes(2**16)):
                pass
        yield filler
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)  # noqa: S607 - as above


def test_disk_full(machine: JobsMachine, service: Service, post: Post) -> None:
    """A full disk refuses submissions, and all goes on when there is room."""
    with small_disk(machine.jobs / "files") as filler:
        refused = post("hash")
        filler.unlink()
        job = ended(service, post("hash").json()["job_id"])
        service.ask("DELETE", f"/jobs/{job['job_id']}")
    assert (507, f"{PROBLEM}storage-full") == (refused.status_code, refused.json()["type"])
    assert "completed" == job["status"]
    wait_until(lambda: not list((machine.jobs / "incoming").iterdir()))


def test_disk_full_under_a_job(machine: JobsMachine, service: Service) -> None:
    """A job whose result has no room is tried again until there is."""
    with small_disk(machine.jobs / "files") as filler:
        answer = service.ask("POST", "/jobs/hash", data={"path": str(PHOTO)})
        job_id = answer.json()["job_id"]
        wait_until(lambda: service.get(f"/jobs/{job_id}")["error_kind"] == "storage-full")
        filler.unlink()
        job = ended(service, job_id)
        service.ask("DELETE", f"/jobs/{job_id}")
    assert "completed" == job["status"]


@contextmanager
def locked(table: Path) -> Iterator[None]:
    """Hold the lock of a SQLite file that every write needs, for the block."""
    with closing(sqlite3.connect(table, timeout=60, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


@pytest.mark.parametrize("locked_s", [3, BUSY_TIMEOUT_S + 3])
def test_database_locked(  # noqa: PLR0913, PLR0917 - fixtures
    machine: JobsMachine,
    service: Service,
    samples: Samples,
    post: Post,
    locked_s: int,
    full: bool,  # noqa: FBT001 - a fixture
) -> None:
    """Submissions wait for a locked database, up to its limit; what was taken is not lost."""
    if locked_s > BUSY_TIMEOUT_S and not full:
        pytest.skip("takes long: FULL=1")
    files = [("files", (f"{number}.jpg", samples.picture)) for number in range(BATCH_FILES)]
    batch = service.ask("POST", "/jobs/batch", data={"task": "hash"}, files=files).json()["jobs"]
    with ThreadPoolExecutor() as threads:
        with locked(machine.jobs / "jobs.sqlite"):
            answer = threads.submit(post, "hash")
            time.sleep(locked_s)  # so long it is locked
        response = answer.result()
    if locked_s < BUSY_TIMEOUT_S:
        assert HTTPStatus.OK == response.status_code
    elif not response.is_success:  # it waits behind others, each up to the limit
        assert f"{PROBLEM}node-unavailable" == response.json()["type"]
    found = {ended(service, job["job_id"], LOST_S)["status"] for job in batch}
    assert {"completed"} == found


def test_broker_down(service: Service, broker: Mosquitto, post: Post) -> None:
    """Jobs do not notice that the broker is away."""
    broker.kill()
    job = ended(service, post("hash").json()["job_id"])
    broker.start()
    assert "completed" == job["status"]


def test_client_gone(machine: JobsMachine, service: Service) -> None:
    """Of an upload whose client went away in the middle nothing is left, and no job is made."""
    before = service.get("/jobs")["total"]
    incoming = machine.jobs / "incoming"
    door = urlsplit(machine.urls[0])
    with socket.create_connection((str(door.hostname), door.port or 80)) as client:
        client.sendall(
            b"POST /jobs/hash HTTP/1.1\r\nHost: here\r\nContent-Length: 100000000\r\n"
            b"Content-Type: multipart/form-data; boundary=x\r\n\r\n"
            b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n\r\n'
        )
        client.sendall(bytes(2**20))
        wait_until(lambda: incoming.exists() and list(incoming.iterdir()))
    wait_until(lambda: not list(incoming.iterdir()), 10)
    assert before == service.get("/jobs")["total"]


def test_large_upload(
    machine: JobsMachine,
    service: Service,
    tmp_path: Path,
    full: bool,  # noqa: FBT001 - a fixture
) -> None:
    """A gigabyte does not pass through the memory of any process."""
    size_bytes = UPLOAD_BYTES if full else UPLOAD_BYTES // 4
    large = tmp_path / "large.bin"
    with large.open("wb") as file:
        file.truncate(size_bytes)
    processes = [*machine.replicas_of("ingress"), *machine.replicas_of("jobs")]
    with Memory(processes) as memory:
        with large.open("rb") as file:
            answer = httpx2.post(
                f"{machine.urls[0]}/jobs/hash", files={"file": ("large.bin", file)}, timeout=120
            )
        job = ended(service, answer.json()["job_id"], 120)
    growth = max(memory.growth_bytes.values())
    say(f"{size_bytes / 2**20:.0f} MiB uploaded and hashed: +{growth / 2**20:.0f} MiB at most")
    service.ask("DELETE", f"/jobs/{job['job_id']}")
    assert "completed" == job["status"]
    assert growth < MAX_GROWTH_BYTES


def test_runner_dies_under_a_stream(machine: JobsMachine, service: Service, video: Path) -> None:
    """What a dead runner had asked for is not worked on beside the attempt that follows it."""
    job_id = submit_stream(service, video)
    wait_until(lambda: encoders(machine.processes()))
    (first,) = encoders(machine.processes())
    machine.kill("jobs")
    wait_until(lambda: set(encoders(machine.processes())) - {first})
    wait_until(lambda: not first.is_running())
    assert 1 == len(encoders(machine.processes()))
    service.cancel(job_id)
    wait_until(lambda: not encoders(machine.processes()))
