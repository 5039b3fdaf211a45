"""Looks at everything after the storm: every job, every file, every row, every event."""

import hashlib
import json
import os
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from deployments.hls_streaming import validate
from serve_app.jobs.engine import ENDED
from tests.cluster.figures import say
from tests.jobs.clients import Service, wait_until
from tests.jobs.listening import Listener, Receiver
from tests.jobs.orders import Order
from tests.jobs.systems import System, encoders

_STALE_S = 3 * 24 * 3600.0
"""Folders without a job are removed after a day."""

_TIDIED_S = 120.0
"""What a worker has written whose runner had died is removed 30 to 50 s after the job's end."""

_CANCELLED = "cancelled"


@dataclass(frozen=True)
class Kill:
    """Something was killed, at a time in seconds since 1970."""

    kind: str
    at_s: float


def check_jobs(service: Service, placed: Mapping[Order, Sequence[str]]) -> list[dict[str, Any]]:
    """Check that there is exactly one ended job for each that was ordered; return all jobs."""
    jobs = {job["job_id"]: job for job in service.jobs()}
    ordered = [job_id for ids in placed.values() for job_id in ids]
    assert sorted(jobs) == sorted(ordered)  # none lost, none made twice
    assert len(jobs) == service.get("/admin/jobs/storage/size")["job_count"]
    wrong = [
        (order.key, order.task, job["status"], job["error_kind"], job["error_message"])
        for order, ids in placed.items()
        for job in (jobs[job_id] for job_id in ids)
        if not _ended_as_expected(order, job)
    ]
    assert [] == wrong
    return list(jobs.values())


def check_files(system: System, placed: Mapping[Order, Sequence[str]], jobs: Sequence[Any]) -> None:
    """Check that the files of each job are there and right, and that there is no other."""
    store = system.jobs / "files"
    by_id = {job["job_id"]: job for job in jobs}

    def attempts(job_id: str) -> list[Path]:
        return [path for path in (store / job_id).iterdir() if path.name != "input"]

    def problems() -> list[str]:
        return [
            f"{job['task_type']} {job['status']} {job_id}: {attempts(job_id)}"
            for job_id, job in by_id.items()
            if not (store / job_id / "input").exists()
            or len(attempts(job_id)) != (job["status"] == "completed")
        ]

    with suppress(AssertionError):  # the next line says what is wrong
        wait_until(lambda: not problems(), _TIDIED_S)
    assert [] == problems()
    for order, ids in placed.items():
        for (_, sent), job_id in zip(order.files, ids, strict=True):
            if by_id[job_id]["status"] == "completed":
                _check_result(by_id[job_id], attempts(job_id)[0], sent)
    on_disk = sum(path.stat().st_size for job_id in by_id for path in _files(store / job_id))
    say(f"{len(jobs)} jobs with {on_disk / 2**20:.1f} MiB of files")


def check_leftovers(system: System, service: Service, jobs: Sequence[Any]) -> None:
    """Check that what nobody has a use for is removed, when its time has come.

    A folder whose ingress died before the job was written down is kept for a day, since a large
    upload has its folder before it has its job; here it is made older.
    """
    store = system.jobs / "files"
    known = {job["job_id"] for job in jobs}
    orphans = [path for path in store.iterdir() if path.name not in {*known, ".unfinished"}]
    unfinished = store / ".unfinished"
    half = list(unfinished.iterdir()) if unfinished.exists() else []
    say(f"folders without a job: {len(orphans)}, half written files: {len(half)}")
    if orphans:
        stale_s = time.time() - _STALE_S
        for path in orphans:
            os.utime(path, (stale_s, stale_s))
        kill_runner = system.victims()["job runner"][1]
        kill_runner()
        wait_until(lambda: not any(path.exists() for path in orphans))
    for path in (system.jobs / "incoming").glob("**/*"):  # a machine that stays away left them
        stale_s = time.time() - _STALE_S
        os.utime(path, (stale_s, stale_s))
    wait_until(lambda: not any((system.jobs / "incoming").iterdir()))
    wait_until(lambda: not encoders(system.processes()))
    assert [] == list((system.jobs.with_name("outputs")).iterdir())
    assert [] == service.unexpected


def check_queue(database: sa.Engine, schema: str | None) -> None:
    """Wait until the queue has nothing more to do."""
    statuses = sa.Table("workflow_status", sa.MetaData(), sa.Column("status"), schema=schema)
    alive = sa.select(sa.func.count()).where(statuses.c.status.not_in(ENDED))

    def count() -> int:
        with database.connect() as connection:
            return connection.scalar(alive) or 0

    wait_until(lambda: count() == 0)


def check_told(
    placed: Mapping[Order, Sequence[str]],
    jobs: Sequence[Any],
    receiver: Receiver,
    listener: Listener,
) -> None:
    """Check that nobody heard of two ends of one job, and that each webhook came."""
    told = sorted(job_id for order, ids in placed.items() if order.told for job_id in ids)
    assert told == sorted(receiver.deliveries)
    ends = {job["job_id"]: job["completed_at"] for job in jobs}
    expected = {job_id: {f"{job_id}-{ends[job_id]}"} for job_id in told}
    assert expected == {job_id: set(ids) for job_id, ids in receiver.deliveries.items()}
    again = sum(len(ids) - 1 for ids in receiver.deliveries.values())
    say(f"webhooks: {len(told)}, delivered again: {again}; events: {len(listener.completed)}")
    seen = listener.completed
    assert {job_id: {ends[job_id]} for job_id in seen} == seen


def say_figures(jobs: Sequence[Any], kills: Sequence[Kill]) -> None:
    """Print what became of the jobs, and how long after each kill the next one was completed."""
    statuses = Counter(f"{job['status']} {job['error_kind'] or ''}".strip() for job in jobs)
    attempts = Counter(job["attempts"] for job in jobs)
    dead = sum(job["dead_letter"] for job in jobs)
    say(f"{dict(statuses)}; attempts: {dict(sorted(attempts.items()))}; given up: {dead}")
    ends = sorted(job["completed_at"] / 1000 for job in jobs if job["status"] == "completed")
    waits: dict[str, list[float]] = defaultdict(list)
    for kill in kills:
        after = next((end for end in ends if end > kill.at_s), None)
        if after is not None:
            waits[kill.kind].append(after - kill.at_s)
    for kind, found in sorted(waits.items()):
        say(
            f"{kind}: killed {len(found)} times, the next job was completed after "
            f"{statistics.median(found):.1f} s (median), {max(found):.1f} s (at most)",
        )


def _ended_as_expected(order: Order, job: dict[str, Any]) -> bool:
    if job["status"] == "completed":
        return not order.fails
    reasoned = bool(job["error_kind"] and job["error_message"]) and job["status"] == "failed"
    if order.fails:
        return reasoned and not job["dead_letter"]
    return reasoned and (
        job["dead_letter"] or (order.cancelled and job["error_kind"] == _CANCELLED)
    )


def _check_result(job: dict[str, Any], folder: Path, sent: bytes) -> None:
    """Check the files of a completed job."""
    task, output = job["task_type"], job["task_output"]
    if task == "analyze":
        assert {} == output["problems"]
        assert {"exif", "hash", "face_detection"} == set(output["outputs"])
        for shown in output["outputs"].values():
            json.loads((folder / shown["output_path"]).read_bytes())
        _check_hash(folder / output["outputs"]["hash"]["output_path"], sent)
        return
    path = folder / output["output_path"]
    assert path.stat().st_size > 0, path
    if task == "hash":
        _check_hash(path, sent)
    elif path.suffix == ".json":
        json.loads(path.read_bytes())
    elif path.suffix == ".m3u8":
        assert [] == validate(path.parent)


def _check_hash(path: Path, sent: bytes) -> None:
    found = json.loads(path.read_bytes())
    assert hashlib.new(found["algorithm"], sent).hexdigest() == found["hash_value"]


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]
