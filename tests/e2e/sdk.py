"""A client of the original system's job protocol, which makes each request as its SDK does.

Written against ``wire-protocols.md``, part A, not against this server: it submits a multipart form
of texts, asks for the job at once, and only then listens for its events or polls. What it reads
is checked as strictly as the SDK does: a progress with a decimal point is refused.
"""

import json
import mimetypes
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx2
from paho.mqtt.client import Client, ConnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from pydantic import BaseModel, JsonValue

ENDED = frozenset({"completed", "failed"})
EVENTS = "inference/events"
WORKERS = "inference/workers"
TIMEOUT_S = 30.0  # the SDK's, for a request


class JobView(BaseModel):
    """What ``GET /jobs/{id}`` answers, with the types that the SDK expects."""

    job_id: str
    task_type: str
    status: str
    progress: int = 0
    params: dict[str, JsonValue] = {}
    task_output: dict[str, JsonValue] | None = None
    error_message: str | None = None
    priority: int = 5
    created_at: int
    updated_at: int | None = None
    started_at: int | None = None
    completed_at: int | None = None

    @property
    def output(self) -> dict[str, Any]:
        """The output of a job that was completed."""
        assert self.task_output is not None, self.error_message
        return self.task_output


class SubmittedView(BaseModel):
    """What a submission answers."""

    job_id: str
    status: str
    task_type: str


class EventView(BaseModel):
    """An event of a job on ``inference/events``."""

    job_id: str
    event_type: str
    timestamp: int
    progress: int | float | None = None


class WorkerView(BaseModel):
    """The state of a worker on ``inference/workers/<id>``."""

    worker_id: str
    capabilities: list[str]
    idle_count: int
    timestamp: int


@dataclass(frozen=True)
class Pace:
    """How a job is polled: the SDK's by default."""

    first_s: float = 1.0
    factor: float = 1.5
    longest_s: float = 10.0


@dataclass
class Watched:
    """The events of one job since somebody listened."""

    job_id: str
    events: list[EventView] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)


class Monitor:
    """The connection to the broker, made when the client is."""

    def __init__(self, port: int) -> None:
        """Connect, and wait for it as the SDK does."""
        self.workers: dict[str, WorkerView] = {}
        self.known = threading.Event()
        """Some worker has told of itself."""
        self._watched: list[Watched] = []
        self._connected = threading.Event()
        self._client = Client(CallbackAPIVersion.VERSION2)
        self._client.on_connect = self._on_connect
        self._client.on_message = self._on_message
        self._client.connect("127.0.0.1", port, keepalive=60)
        self._client.loop_start()
        assert self._connected.wait(TIMEOUT_S), "the broker does not answer"

    def watch(self, job_id: str) -> Watched:
        """Listen for the events of a job; those before are lost."""
        watched = Watched(job_id)
        self._watched.append(watched)
        return watched

    def close(self) -> None:
        """Disconnect."""
        self._client.disconnect()
        self._client.loop_stop()

    def _on_connect(
        self,
        client: Client,
        _userdata: object,
        _flags: ConnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        assert not reason.is_failure, reason
        client.subscribe(f"{WORKERS}/+")
        client.subscribe(EVENTS)
        self._connected.set()

    def _on_message(self, _client: Client, _userdata: object, message: MQTTMessage) -> None:
        if message.topic != EVENTS:
            worker_id = message.topic.rpartition("/")[2]
            if message.payload:
                self.workers[worker_id] = WorkerView.model_validate_json(message.payload)
                self.known.set()
            else:
                self.workers.pop(worker_id, None)
            return
        event = EventView.model_validate_json(message.payload)
        for watched in self._watched:
            if watched.job_id == event.job_id:
                watched.events.append(event)
                if event.event_type in ENDED:
                    watched.ended.set()


class Sdk:
    """The SDK's calls."""

    def __init__(self, url: str, mqtt_port: int, pace: Pace = Pace()) -> None:
        """Connect to the broker; HTTP connects when it is needed."""
        self.http = httpx2.Client(base_url=url, timeout=TIMEOUT_S)
        self.monitor = Monitor(mqtt_port)
        self._pace = pace

    def __enter__(self) -> Self:
        """Use it in a block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Disconnect."""
        self.monitor.close()
        self.http.close()

    def submit(
        self,
        task: str,
        file: Path | None,
        params: Mapping[str, object] | None = None,
        *,
        priority: int = 5,
    ) -> JobView:
        """Submit a job and ask for it at once."""
        data = {"priority": str(priority)}
        for name, value in (params or {}).items():
            data[name] = str(value) if value is not None else ""
        if file is None:  # a form of parts all the same, as the Dart SDK's
            parts = {name: (None, value) for name, value in data.items()}
            answer = self.http.post(f"/jobs/{task}", files=parts)
        else:
            mime = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
            with file.open("rb") as opened:
                files = {"file": (file.name, opened, mime)}
                answer = self.http.post(f"/jobs/{task}", data=data, files=files)
        answer.raise_for_status()
        submitted = SubmittedView.model_validate(answer.json())
        assert task == submitted.task_type
        return self.get(submitted.job_id)

    def submit_and_watch(
        self,
        task: str,
        file: Path | None,
        params: Mapping[str, object] | None = None,
    ) -> tuple[JobView, Watched]:
        """Submit a job, then listen for its events: in this order, as the SDK does."""
        job = self.submit(task, file, params)
        return job, self.monitor.watch(job.job_id)

    def get(self, job_id: str) -> JobView:
        """Ask how a job stands."""
        answer = self.http.get(f"/jobs/{job_id}")
        answer.raise_for_status()
        return JobView.model_validate_json(answer.content, strict=True)

    def wait(self, job_id: str, timeout_s: float) -> JobView:
        """Poll a job until it has ended."""
        deadline_s = time.monotonic() + timeout_s
        pause_s = self._pace.first_s
        while True:
            job = self.get(job_id)
            if job.status in ENDED:
                return job
            assert time.monotonic() < deadline_s, f"{job.task_type} is {job.status} yet"
            time.sleep(pause_s)
            pause_s = min(pause_s * self._pace.factor, self._pace.longest_s)

    def download(self, job_id: str, path: str) -> bytes:
        """Fetch a file of a job, as a whole."""
        answer = self.http.get(f"/jobs/{job_id}/files/{path}")
        answer.raise_for_status()
        return answer.content

    def download_json(self, job_id: str, path: str) -> dict[str, Any]:
        """Fetch a file of a job that is JSON."""
        return json.loads(self.download(job_id, path))

    def delete(self, job_id: str) -> None:
        """Remove a job."""
        answer = self.http.delete(f"/jobs/{job_id}")
        answer.raise_for_status()
        assert (204, b"") == (answer.status_code, answer.content)
