"""What the guide promises for bad days: full disks, locked databases, clients that vanish."""

import os
import socket
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import httpx2
import psutil
import pytest

from serve_app.jobs.table import BUSY_TIMEOUT_S
from tests.cluster.figures import say
from tests.jobs.blocking import all_places_taken, long_video, submit_stream
from tests.jobs.clients import Service, wait_until
from tests.jobs.listening import Receiver, receiving
from tests.jobs.orders import Samples
from tests.jobs.systems import JobsMachine, encoders
from tests.mosquitto import Mosquitto

pytestmark = [pytest.mark.jobs, pytest.mark.timeout(600)]

DISK_BYTES = 1500 * 2**20
"""Of the disk that is filled: room for an upload of a gigabyte."""

UPLOAD_BYTES = 2**30
MAX_GROWTH_BYTES = 150 * 2**20
"""Of the memory of one process meanwhile."""

BATCH_FILES = 20
LOST_S = 90.0
"""A job that was lost with the database is found within 50 s."""

KEEP_S = 4.0

Post = Callable[..., httpx2.Response]
"""Submits a job once: takes a task, the content of a file, and fields of the form."""


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give a folder, on a small disk of its own where that can be had."""
    folder = tmp_path_factory.mktemp("bad-days")
    if os.geteuid() != 0:
        yield folder
        return
    options = ("-t", "tmpfs", "-o", f"size={DISK_BYTES}", "none")
    subprocess.run(["mount", *options, folder], check=True)  # noqa: S607 - of the system
    yield folder
    subprocess.run(["umount", folder], check=True)  # noqa: S607 - as above


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    """Receive webhooks."""
    with receiving() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    """Run a broker."""
    broker = Mosquitto(tmp_path_factory.mktemp("broker"))
    broker.start()
    yield broker
    broker.kill()


@pytest.fixture(scope="module")
def machine(
    disk: Path,
    receiver: Receiver,
    broker: Mosquitto,
    samples: Samples,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[JobsMachine]:
    """Run a stack for all tests of this file, with its jobs on the small disk."""
    del samples  # installs the models
    machine = JobsMachine(
        tmp_path_factory.mktemp("machine"),
        disk / "jobs",
        jobs={"webhooks": {"allowed_urls": [receiver.url]}},
        mqtt={"host": "127.0.0.1", "port": broker.port},
    )
    machine.up()
    yield machine
    machine.down()


@pytest.fixture(scope="module")
def service(machine: JobsMachine) -> Service:
    """Give a client of the stack."""
    return Service(machine.urls)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a video that takes minutes to encode."""
    return long_video(tmp_path_factory.mktemp("video"))


@pytest.fixture
def post(machine: JobsMachine, samples: Samples) -> Post:
    """Submit a job once; give the answer, whatever it says."""

    def post(task: str, data: bytes = samples.picture, **form: str) -> httpx2.Response:
        key = form.pop("key", None)
        headers = {} if key is None else {"Idempotency-Key": key}
        url = f"{machine.urls[0]}/jobs/{task}"
        files = {"file": ("photo.jpg", data)}
        return httpx2.post(url, data=form, files=files, headers=headers, timeout=120)

    return post


def ended(service: Service, job_id: str, timeout_s: float = 60.0) -> dict[str, Any]:
    """Wait until a job has ended; return it."""
    wait_until(lambda: service.get(f"/jobs/{job_id}")["completed_at"], timeout_s)
    return service.get(f"/jobs/{job_id}")


def test_disk_full(machine: JobsMachine, disk: Path, service: Service, post: Post) -> None:
    """A full disk refuses submissions, and all goes on when there is room."""
    if not disk.is_mount():
        pytest.skip("a small disk needs root; run `sudo make test-jobs`")
    before = ended(service, post("hash").json()["job_id"])
    with filled(disk):
        refused = post("hash", bytes(2**20))
    assert (507, "urn:cl-ml-serve:problem:storage-full") == (
        refused.status_code,
        refused.json()["type"],
    )
    assert [] == list((machine.jobs / "incoming").iterdir())
    after = ended(service, post("hash").json()["job_id"])
    assert [before["status"], after["status"]] == ["completed"] * 2


@contextmanager
def filled(disk: Path) -> Iterator[None]:
    """Leave no room on a disk for the block."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(2**16)):
                pass
        except OSError:
            pass
    try:
        yield
    finally:
        filler.unlink()


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
    else:
        assert "urn:cl-ml-serve:problem:node-unavailable" == response.json()["type"]
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
        wait_until(lambda: list(incoming.iterdir()))
    wait_until(lambda: not list(incoming.iterdir()))
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


class Memory:
    """Watches the resident memory of processes for the time of a block."""

    def __init__(self, processes: list[psutil.Process]) -> None:
        """Note how much there is before."""
        self._before = {process: process.memory_info().rss for process in processes}
        self.growth_bytes = dict.fromkeys(processes, 0)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        """Begin to look."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Look no more."""
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(0.05):
            for process, before in self._before.items():
                growth = process.memory_info().rss - before
                self.growth_bytes[process] = max(growth, self.growth_bytes[process])


def test_priority(machine: JobsMachine, service: Service, video: Path, post: Post) -> None:
    """The most urgent is first, and among equals the oldest."""
    priorities = [0, 5, 10, 3, 10, 7, 0, 5]
    with all_places_taken(machine, service, video) as blocking:
        ids = [post("exif", priority=str(priority)).json()["job_id"] for priority in priorities]
        service.cancel(blocking[0])  # gives one place, for one after another
        jobs = [ended(service, job_id) for job_id in ids]
    began = sorted(jobs, key=lambda job: job["started_at"])
    expected = sorted(jobs, key=lambda job: (-job["priority"], job["created_at"]))
    assert [job["job_id"] for job in expected] == [job["job_id"] for job in began]


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


def test_stopped_and_started(
    machine: JobsMachine, service: Service, video: Path, samples: Samples, post: Post
) -> None:
    """What waits goes on after a restart, its key gives the same job, and it is kept its time."""
    with all_places_taken(machine, service, video):
        first = post("hash", key="once").json()["job_id"]
        machine.down()
        machine.args["jobs"]["keep_s"] = KEEP_S
        machine.up()
        assert first == post("hash", key="once").json()["job_id"]
    assert "completed" == ended(service, first)["status"]
    refused = post("hash", samples.face, key="once")
    assert HTTPStatus.UNPROCESSABLE_ENTITY == refused.status_code
    folder = machine.jobs / "files" / first
    wait_until(lambda: not folder.exists())
    assert HTTPStatus.NOT_FOUND == service.ask("GET", f"/jobs/{first}").status_code
    assert first != post("hash", key="once").json()["job_id"]
