"""The durable queue: DBOS Transact, which holds what waits and what runs in the jobs' database.

A job's attempt, and the delivery of a webhook, is a DBOS workflow: a row in the same database as
the table of jobs, written in the same transaction, and run when its turn comes. What runs when
this process dies is run again by the next one.

DBOS looks for work at an interval, which at the 20 ms that a quick job needs costs a fifth of a
core when there is nothing to do. Here it looks every two seconds, and at once when woken: its
queue threads wait on an event that ``_WakeableEvent`` replaces. Should a later release no longer
wait on that event, jobs start later and nothing else changes.
"""

import asyncio
import contextlib
import json
import logging
import secrets
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import sqlalchemy as sa
from dbos import DBOS, DBOSClient, DBOSConfig, Serializer, _dbos

logger = logging.getLogger("ray.serve")

JOBS = "jobs"
WEBHOOKS = "webhooks"

APPLICATION = "cl-ml-serve"
_VERSION = "1"
"""DBOS gives work only to the version that took it; any release of ours takes over all of it."""

POLL_S = 2.0
"""Work that nobody announced here waits so long: retries, or what a stand-by replica took."""

FIRST_PAUSE_S = 0.04
"""Between looks after a wake-up, doubling up to ``POLL_S``: a slot becomes free a little after its
job has ended. No two looks are closer, however often they are woken: each takes 4 ms of a core."""

STOP_TIMEOUT_S = 5.0

CONCURRENT_WEBHOOKS = 4

_QUEUE_THREAD = "queue-worker-"
"""How DBOS names the threads that look for work, before the queue's name."""

_WOKEN = (f"{_QUEUE_THREAD}{JOBS}", f"{_QUEUE_THREAD}{WEBHOOKS}")

ENDED = ("SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED")
"""States of a workflow that will not run any more."""

ALIVE = ("ENQUEUED", "DELAYED", "PENDING")
"""States of one that waits or runs."""


class _Json(Serializer):
    """What goes into the database, in place of pickle: somebody else may write to it."""

    def serialize(self, data: Any) -> str:  # noqa: ANN401 - any JSON
        return json.dumps(data)

    def deserialize(self, serialized_data: str) -> Any:  # noqa: ANN401 - any JSON
        return json.loads(serialized_data)

    def name(self) -> str:
        return "json"


Attempt = Callable[[str, int], Awaitable[None]]
Deliver = Callable[[str, int], Awaitable[None]]


class Engine:
    """The queues of one database.

    Any process may put work in; the one that has called ``launch`` does it.
    """

    def __init__(self, database: sa.Engine, max_concurrent: int) -> None:
        """Prepare the database; nothing runs before ``launch``."""
        self._database = database
        self._max_concurrent = max_concurrent
        self._wake = _Wake()
        self._at_work: set[str | None] = set()
        self._config: DBOSConfig = {
            "name": APPLICATION,
            "system_database_engine": database,
            "executor_id": JOBS,
            "application_version": _VERSION,
            "serializer": _Json(),
            "log_level": "ERROR",
            "use_listen_notify": False,
        }
        self.client = self._open_client()

    def launch(self, attempt: Attempt, deliver: Deliver, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to do work, that of a predecessor first; both functions are called on ``loop``.

        Args:
            attempt: takes a job's id and the number of the attempt.
            deliver: takes a job's id and the number of the delivery of its webhook.
            loop: the event loop.

        """

        def on_loop(function: Attempt) -> Callable[[str, int], Coroutine[Any, Any, None]]:
            async def run(job_id: str, number: int) -> None:
                workflow_id = DBOS.workflow_id
                self._at_work.add(workflow_id)
                work = asyncio.run_coroutine_threadsafe(_awaited(function, job_id, number), loop)
                try:
                    await asyncio.wrap_future(work)
                finally:
                    self._at_work.discard(workflow_id)
                    self.wake()

            return run

        self._wake = _Wake()
        DBOS(config=self._config)
        DBOS.workflow(name=JOBS)(_named(JOBS, on_loop(attempt)))
        DBOS.workflow(name=WEBHOOKS)(_named(WEBHOOKS, on_loop(deliver)))
        for name, concurrency in ((JOBS, self._max_concurrent), (WEBHOOKS, CONCURRENT_WEBHOOKS)):
            self.client.register_queue(
                name,
                worker_concurrency=concurrency,
                polling_interval_sec=POLL_S,
                on_conflict="always_update",
            )
        with _wakeable_queues(self._wake):
            DBOS.launch()

    def stop(self) -> None:
        """Do no more work; what runs is left to whoever launches next."""
        self._wake.stop()
        for thread in threading.enumerate():
            if thread.name in _WOKEN:
                thread.join(STOP_TIMEOUT_S)  # it would still take work that nobody does
        DBOS.destroy(destroy_registry=True)

    def close(self) -> None:
        """Let go of the database."""
        self.client.destroy()
        self._database.dispose()

    def wake(self) -> None:
        """Look for work at once; call it when a transaction that put some in is done."""
        self._wake()

    def put_attempt(
        self,
        connection: sa.Connection,
        job_id: str,
        number: int,
        priority: int,
        delay_s: float = 0.0,
    ) -> None:
        """Put an attempt at a job into the queue, within a transaction.

        ``priority`` is 0 to 10, and 0 is the most urgent.
        """
        self._put(connection, JOBS, job_id, number, priority=priority + 1, delay_s=delay_s)

    def put_webhook(
        self,
        connection: sa.Connection,
        job_id: str,
        number: int,
        delay_s: float = 0.0,
    ) -> None:
        """Put a delivery of a job's webhook into the queue, within a transaction."""
        self._put(connection, WEBHOOKS, job_id, number, priority=1, delay_s=delay_s)

    def attempts(self, job_id: str) -> list[str]:
        """Name the attempts at a job that wait or run."""
        return self._alive(f"{job_id}/{JOBS}-")

    def cancel(self, attempts: list[str]) -> None:
        """Take attempts out of the queue, if they have not ended meanwhile."""
        with contextlib.suppress(Exception):
            self.client.cancel_workflows(attempts)

    def is_alive(self, job_id: str, number: int) -> bool:
        """Tell whether an attempt waits or runs."""
        return bool(self._alive(_prefix(JOBS, job_id, number)))

    def put_back_lost(self, before_ms: int) -> int:
        """Put back what was taken out of its queue before a time, and is not in work here.

        DBOS takes it out first and begins it then; where the database does not answer in between,
        it never does, and its place among those in work is lost. Returns how many there were.
        """
        taken = self.client.list_workflows(status=["PENDING"], load_input=False, load_output=False)
        lost = [
            found.workflow_id
            for found in taken
            if found.workflow_id not in self._at_work and (found.updated_at or 0) < before_ms
        ]
        for workflow_id in lost:
            logger.warning("%s was taken out of its queue and lost; it is put back", workflow_id)
            # What DBOS itself does for a predecessor's work, when it is launched.
            self.client._sys_db.reenqueue_for_recovery(workflow_id, [JOBS], JOBS)  # noqa: SLF001
        if lost:
            self.wake()
        return len(lost)

    def forget_ended(self, before_ms: int, limit: int) -> int:
        """Remove what ended before a time; the table of jobs has all that matters of it."""
        ended = self.client.list_workflows(
            status=list(ENDED),
            completed_before=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(before_ms / 1000)),
            load_input=False,
            load_output=False,
            limit=limit,
        )
        if ended:
            self.client.delete_workflows([status.workflow_id for status in ended])
        return len(ended)

    def _alive(self, prefix: str) -> list[str]:
        """List the workflows that wait or run, and whose ids begin so."""
        found = self.client.list_workflows(
            workflow_id_prefix=prefix,
            status=list(ALIVE),
            load_input=False,
            load_output=False,
        )
        return [status.workflow_id for status in found]

    def _put(  # noqa: PLR0913 - private
        self,
        connection: sa.Connection,
        queue: str,
        job_id: str,
        number: int,
        *,
        priority: int,
        delay_s: float,
    ) -> None:
        options: Any = {
            "workflow_name": queue,
            "queue_name": queue,
            # DBOS runs an id once, ever; a job that is tried again may have this number again.
            "workflow_id": f"{_prefix(queue, job_id, number)}{secrets.token_hex(4)}",
            "app_version": _VERSION,
            "priority": priority,
            **({"delay_seconds": delay_s} if delay_s else {}),
        }
        self.client.enqueue_in_transaction(connection, options, job_id, number)

    def _open_client(self) -> DBOSClient:
        """Make DBOS's tables, unless they are there, and open a client on them."""
        client = DBOSClient(
            system_database_engine=self._database,
            serializer=_Json(),
            application_name=APPLICATION,
            lazy=True,
        )
        client._sys_db.run_migrations()  # noqa: SLF001 - ``DBOS.migrate`` takes no engine
        return client


class _Wake:
    """Wakes threads that wait for work."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._number = 0
        self.stopped = False

    def __call__(self) -> None:
        with self._changed:
            self._number += 1
            self._changed.notify_all()

    def stop(self) -> None:
        """Tell the threads to end."""
        self.stopped = True
        self()

    def wait(self, seen: int, timeout_s: float) -> int:
        """Wait until somebody has called, or has since ``seen``; return the number of calls."""
        with self._changed:
            self._changed.wait_for(lambda: self._number != seen, timeout_s)
            return self._number


class _WakeableEvent:
    """A stop event for DBOS's queue threads, whose ``wait`` ends early when there is work."""

    def __init__(self, stop: threading.Event, wake: _Wake) -> None:
        self._stop = stop
        self._wake = wake
        self._local = threading.local()

    def is_set(self) -> bool:
        return self._wake.stopped or self._stop.is_set()

    def wait(self, timeout: float) -> bool:
        if threading.current_thread().name not in _WOKEN:
            return self._stop.wait(timeout)
        local = self._local
        if not hasattr(local, "pause_s"):
            local.pause_s, local.seen, local.looked_s = FIRST_PAUSE_S, 0, 0.0
        pause_s = min(local.pause_s, timeout)
        seen = self._wake.wait(local.seen, pause_s)
        woken = seen != local.seen
        if woken:
            # Those of a burst find their work together.
            time.sleep(max(0.0, local.looked_s + FIRST_PAUSE_S - time.monotonic()))
        local.seen = seen
        local.pause_s = FIRST_PAUSE_S if woken else 2 * pause_s
        local.looked_s = time.monotonic()
        return self.is_set()


@contextlib.contextmanager
def _wakeable_queues(wake: _Wake) -> Any:  # noqa: ANN401 - a context manager
    """Let the queue threads that DBOS starts meanwhile be woken."""
    name = "queue_thread"
    original = getattr(_dbos, name)

    def queue_thread(stop_event: threading.Event, dbos: DBOS) -> None:
        original(_WakeableEvent(stop_event, wake), dbos)

    setattr(_dbos, name, queue_thread)
    try:
        yield
    finally:
        setattr(_dbos, name, original)


async def _awaited(function: Attempt, job_id: str, number: int) -> None:
    await function(job_id, number)


def _named(name: str, function: Any) -> Any:  # noqa: ANN401 - a coroutine function
    """DBOS tells functions apart by their names."""
    function.__name__ = function.__qualname__ = name
    return function


def _prefix(queue: str, job_id: str, number: int) -> str:
    return f"{job_id}/{queue}-{number}."
