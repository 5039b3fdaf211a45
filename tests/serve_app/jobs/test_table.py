"""The table of jobs, on SQLite and on PostgreSQL."""

import sqlite3
import threading
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from deployments.runtime.errors import (
    InvalidParameterError,
    JobStateError,
    OverloadedError,
    StorageFullError,
    UnknownJobError,
)
from serve_app.jobs.database import open_database
from serve_app.jobs.job import Job, JobFilter, JobRequest, Outcome
from serve_app.jobs.rows import now_ms
from serve_app.jobs.table import JobTable

OUTCOME = Outcome({"media_type": "image/jpeg"}, {"output_path": "output/a.png"}, output_bytes=7)


@pytest.fixture
def table(database: sa.Engine) -> JobTable:
    """An empty table."""
    return JobTable(database, max_queued=5, max_attempts=2)


def nothing(connection: sa.Connection, job: Job) -> None:
    """Write nothing along."""


def request(**changes: Any) -> JobRequest:  # noqa: ANN401 - any field
    """Ask for a hash."""
    made = JobRequest(str(uuid.uuid4()), "hash", ("hash",), input_name="a.jpg", input_bytes=100)
    return replace(made, **changes)


def add(table: JobTable, **changes: Any) -> Job:  # noqa: ANN401 - any field
    """Add a job."""
    return table.add(request(**changes), nothing)[0]


def test_a_job_comes_back_as_it_was_submitted(table: JobTable) -> None:
    """Every field of the request survives, and a new job waits."""
    wanted = request(
        node_params={"hash": {"algorithm": "md5"}},
        params={"algorithm": "md5"},
        texts=("a", "b"),
        priority=10,
        webhook="https://example.org/",
        batch_id="b",
    )
    job, new = table.add(wanted, nothing)
    assert (wanted, "queued", True) == (table.get(job.job_id).request, job.status, new)


def test_submitting_again_gives_the_same_job(table: JobTable) -> None:
    """The same id, or the same idempotency key with the same work, is the same job."""
    first = request(idempotency_key="k")
    job, _ = table.add(first, nothing)
    assert (job, False) == table.add(first, nothing)
    assert (job, False) == table.add(request(idempotency_key="k"), nothing)
    assert 1 == table.totals()[0]


def test_a_key_is_not_used_for_other_work(table: JobTable) -> None:
    """The same key with other parameters is a mistake of the client."""
    add(table, idempotency_key="k")
    with pytest.raises(InvalidParameterError, match="was used for another job"):
        add(table, idempotency_key="k", params={"algorithm": "md5"})


def test_a_full_queue_refuses(table: JobTable) -> None:
    """Waiting jobs are bounded; those in work do not count."""
    jobs = [add(table) for _ in range(5)]
    with pytest.raises(OverloadedError, match="5 jobs wait already"):
        add(table)
    assert table.start(jobs[0].job_id, 1, "a1") is not None
    add(table)


def test_what_goes_along_is_undone_with_it(table: JobTable) -> None:
    """A submission whose place in the queue can't be written leaves no job."""

    def fail(*_: object) -> None:
        raise RuntimeError("no queue")

    wanted = request()
    with pytest.raises(RuntimeError, match="no queue"):
        table.add(wanted, fail)
    with pytest.raises(UnknownJobError):
        table.get(wanted.job_id)


def test_an_attempt_completes_a_job(table: JobTable) -> None:
    """Started, completed: the outcome, the times, and the bytes of all files are there."""
    job_id = add(table).job_id
    started = table.start(job_id, 1, "a1")
    done = table.complete(job_id, "a1", OUTCOME, nothing)
    assert started is not None
    assert done is not None
    assert ("in_progress", 1, "a1") == (started.status, started.attempts, started.attempt_id)
    assert ("completed", OUTCOME, 100.0) == (done.status, done.outcome, done.progress)
    assert job_id == done.job_id
    assert done == table.get(job_id)
    assert done.created_at <= (done.started_at or 0) <= (done.completed_at or 0)
    assert (1, 107) == table.totals()


LATE: list[Callable[[JobTable, str], Job | None]] = [
    lambda table, job_id: table.complete(job_id, "a1-old", OUTCOME, nothing),
    lambda table, job_id: table.put_back(job_id, "a1-old", "late", "internal", nothing),
    lambda table, job_id: table.fail(job_id, "a1-old", ("late", "internal"), nothing),
]


@pytest.mark.parametrize("late", LATE)
def test_an_attempt_that_was_replaced_changes_nothing(
    table: JobTable,
    late: Callable[[JobTable, str], Job | None],
) -> None:
    """A runner that was taken for dead comes back: its attempt does not count any more."""
    job_id = add(table).job_id
    table.start(job_id, 1, "a1-old")
    assert table.start(job_id, 1, "a1-new") is not None
    assert late(table, job_id) is None
    assert "in_progress" == table.get(job_id).status
    assert table.complete(job_id, "a1-new", OUTCOME, nothing) is not None
    assert late(table, job_id) is None
    assert "a1-new" == table.get(job_id).attempt_id


def test_attempts_are_bounded(table: JobTable) -> None:
    """A job waits again for as long as it has attempts left; then it fails as a dead letter."""
    job_id = add(table).job_id
    table.start(job_id, 1, "a1")
    waiting = table.put_back(job_id, "a1", "the node is away", "node-unavailable", nothing)
    assert waiting is not None
    assert ("queued", "the node is away") == (waiting.status, waiting.error)
    assert table.start(job_id, 1, "late") is None
    table.start(job_id, 2, "a2")
    assert table.put_back(job_id, "a2", "again", "node-unavailable", nothing) is None
    failed = table.fail(job_id, "a2", ("again", "node-unavailable"), nothing, dead_letter=True)
    assert failed is not None
    assert ("failed", True) == (failed.status, failed.dead_letter)
    assert (failed,) == table.find(JobFilter(dead_letter=True)).jobs


def test_a_failed_job_is_tried_again_as_often_as_a_new_one(table: JobTable) -> None:
    """Retry gives it all its attempts anew, and takes it off the dead letters."""
    job_id = add(table).job_id
    table.start(job_id, 1, "a1")
    table.fail(job_id, "a1", ("no", "tool-failed"), nothing, dead_letter=True)
    job = table.retry(job_id, nothing)
    assert ("queued", None, False, None) == (
        job.status,
        job.error,
        job.dead_letter,
        job.completed_at,
    )
    for number in (2, 3):
        assert table.start(job_id, number, f"a{number}") is not None
        back = table.put_back(job_id, f"a{number}", "no", "tool-failed", nothing)
        assert (number == 2) == (back is not None)


def test_only_failed_jobs_are_tried_again(table: JobTable) -> None:
    """The message names the state that it is in."""
    job_id = add(table).job_id
    with pytest.raises(JobStateError, match="is queued; only failed jobs"):
        table.retry(job_id, nothing)


def test_a_cancelled_job_stays_cancelled(table: JobTable) -> None:
    """Neither an attempt that begins nor one that ends changes that."""
    job_id = add(table).job_id
    table.start(job_id, 1, "a1")
    assert table.fail(job_id, None, ("cancelled", "cancelled"), nothing) is not None
    assert table.fail(job_id, None, ("cancelled", "cancelled"), nothing) is None
    assert table.complete(job_id, "a1", OUTCOME, nothing) is None
    assert table.start(job_id, 1, "a1b") is None
    assert "cancelled" == table.get(job_id).error_kind


def test_jobs_are_listed_newest_first(table: JobTable, database: sa.Engine) -> None:
    """Filters, pages, and the number of all that match."""
    jobs = [add(table, task="hash" if i % 2 else "exif", batch_id="b") for i in range(5)]
    with database.begin() as connection:
        for age, job in enumerate(jobs):
            connection.execute(
                sa.text("UPDATE jobs SET created_at = :at WHERE job_id = :id"),
                {"at": age, "id": job.job_id},
            )
    newest = [job.job_id for job in reversed(jobs)]
    page = table.find(JobFilter(status="queued", batch_id="b", limit=2, offset=1))
    assert (newest[1:3], 5) == ([job.job_id for job in page.jobs], page.total)
    assert 2 == table.find(JobFilter(task="hash")).total
    assert 0 == table.find(JobFilter(status="completed")).total


def test_old_and_silent_jobs_are_found(table: JobTable) -> None:
    """Ended ones by their end, others by when anything of them changed last."""
    ended, silent = add(table).job_id, add(table).job_id
    table.fail(ended, None, ("no", "input"), nothing)
    soon = now_ms() + 1000
    assert ([ended], []) == (table.expired(soon, 10), table.expired(0, 10))
    assert [silent] == [job.job_id for job in table.idle_since(soon, 10)]
    table.remove([ended])
    assert {silent} == table.known([ended, silent])


def test_many_may_submit_the_same_at_once(table: JobTable) -> None:
    """Eight clients with one key: one job."""
    wanted = [request(idempotency_key="k") for _ in range(8)]
    found: list[str] = []

    def submit(one: JobRequest) -> None:
        found.append(table.add(one, nothing)[0].job_id)

    threads = [threading.Thread(target=submit, args=(one,)) for one in wanted]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (1, 8) == (len(set(found)), len(found))


def test_a_full_disk_is_said(tmp_path: Path) -> None:
    """A table that can't grow refuses with what to do, and works on when there is room."""
    engine = open_database(None, tmp_path)
    table = JobTable(engine, max_queued=1000, max_attempts=1)
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()

    def bound(connection: sqlite3.Connection, *_: object) -> None:
        connection.execute(f"PRAGMA max_page_count={pages}")

    engine.dispose()
    event.listen(engine, "connect", bound)
    with pytest.raises(StorageFullError, match="free some space"):
        add(table, texts=("a" * 100_000,))
    event.remove(engine, "connect", bound)
    engine.dispose()
    add(table)
    engine.dispose()
