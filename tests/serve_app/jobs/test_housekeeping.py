"""What is old goes, and what was lost is found."""

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dbos import _queue
from sqlalchemy.exc import OperationalError

from deployments.runtime.errors import CorruptMediaError
from serve_app.jobs import housekeeping
from serve_app.jobs.job import JobFilter
from tests.serve_app.jobs.local import Service, service
from tests.serve_app.jobs.steered import Steered, request


@pytest.fixture(autouse=True)
def _busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep house all the time, and count everything as old."""
    monkeypatch.setattr(housekeeping, "PERIOD_S", 0.05)
    monkeypatch.setattr(housekeeping, "QUIET_S", 0.0)
    monkeypatch.setattr(housekeeping, "ENGINE_AGE_S", -60.0)


async def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    while not await asyncio.to_thread(holds):  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0.05)


def queued(local: Service) -> list[Any]:
    """List what the engine knows."""
    return local.runner._engine.client.list_workflows()


async def test_ended_jobs_are_kept_for_a_time(tmp_path: Path) -> None:
    """Then they go with their files, and the queue has forgotten them."""
    async with service(tmp_path, keep_s=0.5) as local:
        job_id = await local.submit()
        assert "completed" == (await local.ended(job_id))["status"]
        await until(lambda: not local.runner._table.find(JobFilter()).total)
        await until(lambda: not queued(local))
        await until(lambda: not local.job_folders())
        everything = local.runner._spec.max_bytes
        await until(lambda: local.runner._housekeeping.room() == everything)


async def test_jobs_that_the_queue_has_lost_are_done(tmp_path: Path) -> None:
    """One that waited, and one that was in work when its row in the queue was lost."""
    worker = Steered(held=True)
    async with service(tmp_path, worker, max_concurrent=1) as local:
        for number in range(2):
            await local.runner.submit(request(number))
        await worker.begun.wait()
    async with service(tmp_path, Steered(held=True), max_concurrent=1) as local:
        client = local.runner._engine.client
        found = await asyncio.to_thread(queued, local)
        ids = [workflow.workflow_id for workflow in found]
        assert 2 == len(ids)
        await asyncio.to_thread(client.cancel_workflows, ids)
        await asyncio.to_thread(client.delete_workflows, ids)
    async with service(tmp_path, Steered()) as local:
        jobs = [await local.ended(request(number).job_id) for number in range(2)]
        assert ["completed"] * 2 == [job["status"] for job in jobs]


async def test_jobs_that_the_queue_never_began_are_done(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The queue took one out, and then the database did not answer."""
    taken = asyncio.Event()
    loop = asyncio.get_running_loop()

    def fail(*_: object) -> None:
        patched.undo()
        loop.call_soon_threadsafe(taken.set)
        raise OperationalError("SELECT", {}, Exception("database is locked"))

    async with service(tmp_path, max_concurrent=1) as local:
        with monkeypatch.context() as patched:
            patched.setattr(_queue, "execute_dequeued_workflow", fail)
            job_id = await local.submit()
            await taken.wait()
        assert "completed" == (await local.ended(job_id))["status"]


async def test_what_was_written_after_the_end_is_removed(tmp_path: Path) -> None:
    """By somebody whose runner had died; what a later attempt writes is not."""
    async with service(tmp_path, Steered(CorruptMediaError("broken"))) as local:
        job_id = await local.submit()
        assert "failed" == (await local.ended(job_id))["status"]
        late, next_one = (tmp_path / "files" / job_id / name for name in ("a1-0abc", "a2-0abc"))
        for folder in (late, next_one):
            folder.mkdir(parents=True)
            (folder / "result.json").write_bytes(b"{}")
    async with service(tmp_path) as local:
        await until(lambda: not late.exists())
        assert next_one.exists()
        assert "failed" == (await local.runner.get(job_id)).status


async def test_folders_without_a_job_are_removed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An ingress that died between the file and the job has left one; others stay."""
    monkeypatch.setattr(housekeeping, "LEFTOVER_AGE_S", 10.0)
    async with service(tmp_path) as local:
        kept = await local.submit()
        await local.ended(kept)
    lost = "00000000-0000-0000-0000-00000000000f"
    old = time.time() - 100
    for job_id in (kept, lost):
        (tmp_path / "files" / job_id / "input").mkdir(parents=True, exist_ok=True)
        os.utime(tmp_path / "files" / job_id, (old, old))
    async with service(tmp_path) as local:
        await until(lambda: [kept] == [path.name for path in local.job_folders()])
