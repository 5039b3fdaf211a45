"""One stack for these tests, with a receiver of webhooks and a broker beside it."""

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.jobs.blocking import long_video
from tests.jobs.clients import Post, Service
from tests.jobs.listening import Receiver, receiving
from tests.jobs.orders import Samples
from tests.jobs.systems import JobsMachine
from tests.mosquitto import Mosquitto


@pytest.fixture(scope="package")
def receiver() -> Iterator[Receiver]:
    """Receive webhooks."""
    with receiving() as receiver:
        yield receiver


@pytest.fixture(scope="package")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    """Run a broker."""
    broker = Mosquitto(tmp_path_factory.mktemp("broker"))
    broker.start()
    yield broker
    broker.kill()


@pytest.fixture(scope="package")
def machine(
    receiver: Receiver,
    broker: Mosquitto,
    samples: Samples,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[JobsMachine]:
    """Run a stack for all tests of this folder."""
    del samples  # installs the models
    machine = JobsMachine(
        tmp_path_factory.mktemp("machine"),
        jobs={"webhooks": {"allowed_urls": [receiver.url]}},
        mqtt={"host": "127.0.0.1", "port": broker.port},
    )
    machine.up()
    yield machine
    machine.down()


@pytest.fixture(scope="package")
def service(machine: JobsMachine) -> Service:
    """Give a client of the stack."""
    return Service(machine.urls)


@pytest.fixture(scope="package")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a video that takes minutes to encode."""
    return long_video(tmp_path_factory.mktemp("video"))


@pytest.fixture(scope="package")
def post(machine: JobsMachine, samples: Samples) -> Post:
    """Submit a job once; give the answer, whatever it says."""

    def post(task: str, data: bytes = samples.picture, **form: str) -> httpx2.Response:
        key = form.pop("key", None)
        headers = {} if key is None else {"Idempotency-Key": key}
        url = f"{machine.urls[0]}/jobs/{task}"
        files = {"file": ("photo.jpg", data)}
        return httpx2.post(url, data=form, files=files, headers=headers, timeout=120)

    return post
