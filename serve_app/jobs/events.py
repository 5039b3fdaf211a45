"""What happens to jobs, for those who wait here and for the MQTT broker."""

import asyncio
import platform
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from serve_app.jobs.job import Job, JobEvent
from serve_app.jobs.mqtt import MqttEvents
from serve_app.schema import EventsSpec

PROGRESS_S = 1.0
"""Between two events of one job's progress."""

LISTENING_S = 1.0
"""After its submission a job's end is not told to the broker earlier: clients of the original
system listen for a job only when they have its id and have asked how it stands."""

Kind = Literal["queued", "started", "progress", "completed", "failed"]


class Events:
    """Tells of jobs. All methods are called on the event loop."""

    def __init__(self, spec: EventsSpec, folder: Path, tasks: Sequence[str]) -> None:
        """Prepare the broker's client, if the YAML names one.

        Raises:
            ConfigError: a file that the YAML names can't be used.

        """
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self._told_at_s: dict[str, float] = {}
        # The same after a restart, and another one for another stack on this machine.
        worker_id = f"{platform.node()}-{zlib.crc32(str(folder).encode()):08x}"
        self._open = lambda: spec.mqtt and MqttEvents(spec.mqtt, worker_id, tasks)
        self._open()
        self._mqtt: MqttEvents | None = None

    def start(self) -> None:
        """Connect to the broker, and go on if it is away."""
        self._mqtt = self._open()
        if self._mqtt is not None:
            self._mqtt.start()

    def close(self) -> None:
        """Say good-bye to the broker."""
        mqtt, self._mqtt = self._mqtt, None
        if mqtt is not None:
            mqtt.close()

    def idle(self, count: int) -> None:
        """Tell how many jobs more could be in work."""
        if self._mqtt is not None:
            self._mqtt.idle(count)

    def publish(self, kind: Kind, job: Job) -> None:
        """Tell what happened to a job; its progress only now and then."""
        for event in self._waiting.get(job.job_id, ()):
            event.set()
        now_s = time.monotonic()
        if kind == "progress" and now_s - self._told_at_s.get(job.job_id, 0.0) < PROGRESS_S:
            return
        self._told_at_s[job.job_id] = now_s
        if job.ended:
            del self._told_at_s[job.job_id]
        if self._mqtt is None:
            return
        event = JobEvent(kind, job)
        late_s = job.created_at / 1000 + LISTENING_S - time.time()
        if job.ended and late_s > 0:
            asyncio.get_running_loop().call_later(late_s, self._mqtt.publish, event)
        else:
            self._mqtt.publish(event)

    @contextmanager
    def of(self, job_id: str) -> Iterator[asyncio.Event]:
        """Give an event that is set whenever something happens to a job."""
        event = asyncio.Event()
        self._waiting.setdefault(job_id, set()).add(event)
        try:
            yield event
        finally:
            self._waiting[job_id].discard(event)
            if not self._waiting[job_id]:
                del self._waiting[job_id]
