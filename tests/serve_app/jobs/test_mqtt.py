"""Events of jobs through a real Mosquitto: what clients of the job protocol get of them."""

import logging
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from deployments.runtime.errors import ConfigError
from serve_app.jobs import mqtt
from serve_app.jobs.job import Job, JobEvent
from serve_app.jobs.mqtt import MAX_UNSENT, MqttEvents
from serve_app.schema import MqttSpec
from tests.certificates import make_certificates
from tests.mosquitto import TIMEOUT_S, Mosquitto, subscribed, until
from tests.serve_app.jobs.example_jobs import COMPLETED, FAILED, MOVING, QUEUED, STARTED, named

SEVERAL_ATTEMPTS_S = 0.7
TASKS = ["hash", "exif"]
WORKER = "inference/workers/pi-1"


@contextmanager
def started(spec: MqttSpec) -> Iterator[MqttEvents]:
    """Connect a worker for the time of the block."""
    events = MqttEvents(spec, "pi-1", TASKS)
    events.start()
    try:
        yield events
    finally:
        events.close()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let workers try several times in a second."""
    monkeypatch.setattr(mqtt, "MIN_RECONNECT_S", 0.1)
    monkeypatch.setattr(mqtt, "MAX_RECONNECT_S", 0.2)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    """Give a broker that does not run yet."""
    mosquitto = Mosquitto(tmp_path)
    yield mosquitto
    mosquitto.kill()


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """Collect what is logged, as level and message."""
    found: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: found.append(f"{record.levelname} {record.getMessage()}")
    logger = logging.getLogger("ray.serve")
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    yield found
    logger.removeHandler(handler)
    logger.setLevel(level)


def spec_for(broker: Mosquitto, **more: Any) -> MqttSpec:  # noqa: ANN401 - any key of the YAML
    """Make the part of the YAML that names a broker."""
    return MqttSpec(host="127.0.0.1", port=broker.port, **more)


def tell(events: MqttEvents, job: Job) -> None:
    """Publish a job as it stands."""
    events.publish(JobEvent("progress", job))


def is_connected(events: MqttEvents) -> Callable[[], bool]:
    """Tell whether a worker is known to its broker."""
    return lambda: events._state == "connected"


def without_time(message: tuple[str, Mapping[str, Any]]) -> tuple[str, Mapping[str, Any]]:
    """Check that a worker's state says when it was, and leave that away."""
    topic, body = message
    assert abs(body["timestamp"] / 1000 - time.time()) < 2 * TIMEOUT_S
    return topic, {name: value for name, value in body.items() if name != "timestamp"}


def state(idle_count: int) -> tuple[str, Mapping[str, Any]]:
    """Say what a worker's state should be."""
    return WORKER, {"worker_id": "pi-1", "capabilities": TASKS, "idle_count": idle_count}


def test_events(broker: Mosquitto) -> None:
    """Each event has the four fields of the protocol, and the job's status as its type."""
    broker.start()
    with subscribed(broker.port) as subscriber, started(spec_for(broker)) as events:
        until(is_connected(events))
        for job in (QUEUED, STARTED, MOVING, COMPLETED, FAILED):
            tell(events, job)
        got = [subscriber.get() for _ in range(5)]
    assert [
        (
            "inference/events",
            {"job_id": QUEUED.job_id, "event_type": word, "timestamp": at, "progress": progress},
        )
        for word, at, progress in (
            ("queued", 1_000, 0),
            ("in_progress", 2_000, 0),
            ("in_progress", 3_000, 37),
            ("completed", 4_000, 100),
            ("failed", 5_000, 37),
        )
    ] == got


def test_topic(broker: Mosquitto) -> None:
    """All lies below the topic that the YAML names."""
    broker.start()
    spec = spec_for(broker, topic="home/photos")
    with subscribed(broker.port) as subscriber, started(spec) as events:
        events.idle(1)
        topics = [subscriber.get()[0]]
        tell(events, COMPLETED)
        topics.append(subscriber.get()[0])
    assert ["home/photos/workers/pi-1", "home/photos/events"] == topics


def test_worker_state(broker: Mosquitto) -> None:
    """The worker's state is told when it changes, found by who comes later, and taken back."""
    broker.start()
    with started(spec_for(broker)) as events:
        until(is_connected(events))
        with subscribed(broker.port) as subscriber:
            for count in (8, 8, 7, 7, 8):
                events.idle(count)
            got = [without_time(subscriber.get()) for _ in range(3)]
        with subscribed(broker.port) as subscriber:
            later = without_time(subscriber.get())
            tell(events, COMPLETED)  # comes before the farewell
            events.close()
            last = [subscriber.get() for _ in range(2)]
    with subscribed(broker.port) as subscriber, started(spec_for(broker)) as events:
        tell(events, FAILED)  # the first message, so nothing is retained any more
        after = subscriber.get()
    assert [state(8), state(7), state(8)] == got
    assert state(8) == later
    assert ["completed", None] == [body and body["event_type"] for _, body in last]
    assert "failed" == after[1]["event_type"]


def test_broker_comes_late(broker: Mosquitto, lines: list[str]) -> None:
    """A worker starts without its broker, and tells it afterwards what still matters."""
    with started(spec_for(broker)) as events:
        events.idle(3)
        tell(events, MOVING)
        tell(events, COMPLETED)
        until(lambda: lines)
        broker.start()
        with subscribed(broker.port) as subscriber:
            got = [subscriber.get() for _ in range(2)]
    assert {WORKER: 3, "inference/events": None} == {
        topic: body.get("idle_count") for topic, body in got
    }
    assert ["completed"] == [body["event_type"] for _, body in got if "event_type" in body]
    name = f"MQTT broker 127.0.0.1:{broker.port}"
    assert lines[0].startswith(f"WARNING {name} does not answer (ConnectionRefusedError(")
    assert [f"INFO {name}: connected"] == lines[1:]


def test_broker_restarts(broker: Mosquitto, lines: list[str]) -> None:
    """A restarted broker gets the worker's state, and how jobs ended meanwhile; each once."""
    broker.start()
    with started(spec_for(broker)) as events:
        events.idle(5)
        until(is_connected(events))
        for attempt in range(2):
            broker.kill()
            until(lambda: not events._client.is_connected())
            events.idle(attempt)
            tell(events, named(COMPLETED, f"job {attempt}"))
            time.sleep(SEVERAL_ATTEMPTS_S)
            broker.start()
            with subscribed(broker.port) as subscriber:
                got = dict(subscriber.get() for _ in range(2))
            assert f"job {attempt}" == got["inference/events"]["job_id"]
            assert attempt == got[WORKER]["idle_count"]
    words = ["INFO", *["WARNING", "INFO"] * 2]
    assert words == [line.split()[0] for line in lines]


def test_bound(broker: Mosquitto, lines: list[str]) -> None:
    """While the broker is away, so many events are kept, and the log says how many were lost."""
    jobs = [named(COMPLETED, str(number)) for number in range(MAX_UNSENT + 7)]
    with started(spec_for(broker)) as events:
        for job in jobs:
            tell(events, job)
        until(lambda: lines)
        broker.start()
        with subscribed(broker.port) as subscriber:
            got = [subscriber.get()[1]["job_id"] for _ in range(MAX_UNSENT)]
            until(lambda: not events._client._out_messages)
            tell(events, named(COMPLETED, "last"))
            got.append(subscriber.get()[1]["job_id"])
    assert [*(job.job_id for job in jobs[:MAX_UNSENT]), "last"] == got
    assert lines[-1].endswith("connected; 7 events of jobs were lost meanwhile")


def test_broker_hangs(broker: Mosquitto) -> None:
    """A broker that takes nothing more neither holds up jobs nor fills the memory."""
    broker.start()
    with started(spec_for(broker)) as events:
        until(is_connected(events))
        broker.hang()
        for number in range(3 * MAX_UNSENT):
            tell(events, named(MOVING, str(number)))
        assert MAX_UNSENT == len(events._client._out_messages)
        assert 2 * MAX_UNSENT == events._dropped


def test_worker_killed(broker: Mosquitto) -> None:
    """The state of a worker that died without a word is taken back by its last will."""
    broker.start()
    program = (
        "import time\n"
        "from serve_app.jobs.mqtt import MqttEvents\n"
        "from serve_app.schema import MqttSpec\n"
        f"events = MqttEvents(MqttSpec(host='127.0.0.1', port={broker.port}), 'pi-1', {TASKS})\n"
        "events.start()\n"
        "events.idle(2)\n"
        "time.sleep(600)\n"
    )
    with subscribed(broker.port) as subscriber:
        worker = subprocess.Popen([sys.executable, "-c", program])
        try:
            first = without_time(subscriber.get())
        finally:
            worker.kill()
            worker.wait()
        last = subscriber.get()
    assert state(2) == first
    assert (WORKER, None) == last


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # paho leaves a refused socket to Python
@pytest.mark.parametrize("vouched_for", [True, False])
def test_tls(tmp_path: Path, lines: list[str], *, vouched_for: bool) -> None:
    """A broker is spoken to over TLS, when the authority that the YAML names vouches for it."""
    files = make_certificates(tmp_path)
    broker = Mosquitto(tmp_path, certificate=(files.certificate, files.key))
    broker.start()
    ca_file = files.authority if vouched_for else None
    try:
        with started(spec_for(broker, tls=True, ca_file=ca_file)):
            until(lambda: lines)
    finally:
        broker.kill()
    assert vouched_for == lines[0].endswith("connected")
    assert vouched_for == ("certificate verify failed" not in lines[0])


@pytest.mark.parametrize("is_right", [True, False])
def test_login(tmp_path: Path, lines: list[str], *, is_right: bool) -> None:
    """A worker logs in with the password in a file; refused, it says so once, and not with what."""
    broker = Mosquitto(tmp_path, login=("photos", "right"))
    broker.start()
    file = tmp_path / "password"
    file.write_text("right\n" if is_right else "wrong\n", encoding="utf-8")
    try:
        with started(spec_for(broker, username="photos", password_file=file)) as events:
            until(lambda: lines)
            tell(events, COMPLETED)
            time.sleep(SEVERAL_ATTEMPTS_S)
    finally:
        broker.kill()
    told = "connected" if is_right else "refuses this worker (Not authorized)"
    assert [True] == [told in line for line in lines]
    assert "wrong" not in lines[0]


@pytest.mark.parametrize(
    ("key", "more"),
    [
        ("password_file", {"username": "photos"}),
        ("ca_file", {"tls": True}),
    ],
)
@pytest.mark.parametrize("content", [None, b"\xff"])
def test_wrong_file(
    broker: Mosquitto, tmp_path: Path, key: str, more: dict[str, Any], content: bytes | None
) -> None:
    """A file that can't be used is a mistake in the YAML, named by its key."""
    file = tmp_path / "file"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=rf"^args\.events\.mqtt\.{key}: expected a .*{file}"):
        MqttEvents(spec_for(broker, **more, **{key: file}), "pi-1", TASKS)


@pytest.mark.parametrize("host", ["", "a..b", "ä" * 80])
def test_wrong_host(host: str) -> None:
    """A host that can't be one is a mistake in the YAML, named by its key."""
    with pytest.raises(ConfigError, match=r"^args\.events\.mqtt\.host: expected "):
        MqttEvents(MqttSpec(host=host), "pi-1", TASKS)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "broker.example", "bücher.example"])
def test_host(host: str) -> None:
    """Names and addresses of both kinds are taken."""
    with started(MqttSpec(host=host, port=1)) as events:
        assert events._client.host == host
