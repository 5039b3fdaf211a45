"""Jobs from the submission to the result, in one process: routes, runner, queue and table."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from deployments.runtime.errors import (
    ClServeError,
    CorruptMediaError,
    NodeUnavailableError,
    StorageFullError,
    UnknownJobError,
)
from serve_app.jobs import attempts
from serve_app.jobs.job import Job
from serve_app.jobs.runner import JobRunner
from serve_app.schema import EventsSpec
from tests.serve_app.jobs.local import Service, service
from tests.serve_app.jobs.steered import Steered, request


@pytest.fixture
async def local(tmp_path: Path) -> AsyncIterator[Service]:
    """A service of its own."""
    async with service(tmp_path / "jobs") as running:
        yield running


async def test_a_job_is_submitted_watched_and_fetched(local: Service) -> None:
    """One request each, in the shapes of the protocol."""
    answer = await local.http.post(
        "/jobs/lengths",
        files={"file": ("words.txt", b"one three")},
        data={"priority": "7", "factor": "2", "limit": ""},
    )
    receipt = answer.json()
    assert {"job_id": receipt["job_id"], "status": "queued", "task_type": "lengths"} == receipt
    job = await local.ended(receipt["job_id"])
    assert ("completed", 100, [6, 10]) == (
        job["status"],
        job["progress"],
        job["task_output"]["lengths"],
    )
    assert (7, 2, None) == (job["priority"], job["params"]["factor"], job["error_message"])
    files = (await local.http.get(f"/jobs/{job['job_id']}/files")).json()["files"]
    assert ["input/words.txt", "output/lengths.json"] == [file["path"] for file in files]
    fetched = await local.http.get(f"/jobs/{job['job_id']}/files/output/lengths.json")
    assert {"lengths": [6, 10]} == fetched.json()
    part = await local.http.get(
        f"/jobs/{job['job_id']}/files/input/words.txt",
        headers={"range": "bytes=4-"},
    )
    assert (206, b"three") == (part.status_code, part.content)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("output/nothing.json", 404),
        ("output", 400),
        ("../../x", 404),  # a client takes the dots away before it asks
        ("%2e%2e/%2e%2e/jobs.sqlite", 403),
        ("input/%2e%2e/%2e%2e/runner.lock", 403),
    ],
)
async def test_only_files_of_the_job_are_given(local: Service, path: str, status: int) -> None:
    """Nothing there, a folder, and ways out."""
    job_id = await local.submit()
    await local.ended(job_id)
    answer = await local.http.get(f"/jobs/{job_id}/files/{path}")
    assert status == answer.status_code, answer.text


async def test_what_is_wrong_is_said_at_once(local: Service) -> None:
    """A mistake in a submission is its answer; no job is made and no file is left."""
    file = {"file": ("a.txt", b"one")}
    for answer, status, part in (
        (await local.http.post("/jobs/nothing", files=file), 404, "unknown task 'nothing'"),
        (await local.http.post("/jobs/words", files=file, data={"limit": "0"}), 422, "limit"),
        (await local.http.post("/jobs/words", files=file, data={"lim": "1"}), 422, "lim"),
        (await local.http.post("/jobs/words", files=file, data={"priority": "11"}), 422, "11"),
        (await local.http.post("/jobs/words", data={"limit": "1"}), 400, "this needs a file"),
        (await local.http.post("/jobs/words", files={"file": ("a", b"")}), 400, "0 bytes"),
        (await local.http.post("/jobs/batch", data={"task": "words"}), 400, "a batch needs files"),
        (await local.http.post("/jobs/batch", files=file), 422, "task: expected one"),
        (
            await local.http.post(
                "/jobs/words", files=[("file", ("a", b"x")), ("file", ("b", b"x"))]
            ),
            422,
            "/jobs/batch",
        ),
        (
            await local.http.post("/jobs/words", files=file, data={"webhook": "http://10.0.0.1/"}),
            422,
            "allowed_urls",
        ),
        (await local.http.get("/jobs/00000000-0000-0000-0000-000000000000"), 404, "no job"),
    ):
        assert (status, True) == (answer.status_code, part in answer.text), answer.text
    assert 0 == (await local.http.get("/jobs")).json()["total"]
    assert [] == [path for path in local.folder.rglob("*") if path.suffix == ".txt"]
    assert [] == list((local.folder / "incoming").iterdir())


async def test_a_batch_has_a_job_for_each_file(local: Service) -> None:
    """Each ends on its own, and they are found together."""
    files = [("files", ("a.txt", b"one")), ("files", ("b.txt", b"a\0b"))]
    answer = (await local.http.post("/jobs/batch", files=files, data={"task": "words"})).json()
    jobs = [await local.ended(receipt["job_id"]) for receipt in answer["jobs"]]
    assert ["a.txt", "b.txt"] == [receipt["filename"] for receipt in answer["jobs"]]
    assert ["completed", "failed"] == [job["status"] for job in jobs]
    assert ("corrupt-media", False, 1) == (
        jobs[1]["error_kind"],
        jobs[1]["dead_letter"],
        jobs[1]["attempts"],
    )
    found = await local.http.get("/jobs", params={"batch_id": answer["batch_id"], "limit": 1})
    assert (2, 1) == (found.json()["total"], len(found.json()["jobs"]))


async def test_several_outputs_are_one_job(local: Service) -> None:
    """``analyze`` gives all results of one file."""
    job_id = await local.submit("analyze", outputs="words,lengths")
    job = await local.ended(job_id)
    outputs = job["task_output"]["outputs"]
    assert (["one", "three"], [3, 5]) == (
        outputs["words"]["words"],
        outputs["lengths"]["lengths"],
    )


async def test_the_same_key_is_the_same_job(local: Service) -> None:
    """A submission that is sent again is not done again, and its file is not kept twice."""
    headers = {"idempotency-key": "k"}
    receipts = [
        (
            await local.http.post("/jobs/words", files={"file": ("a.txt", b"one")}, headers=headers)
        ).json()
        for _ in range(2)
    ]
    assert receipts[0]["job_id"] == receipts[1]["job_id"]
    assert 1 == len(local.job_folders())
    other = await local.http.post("/jobs/words", files={"file": ("a", b"three")}, headers=headers)
    assert 422 == other.status_code


async def test_events_tell_each_change(local: Service) -> None:
    """Server-sent events end with the job."""
    job_id = await local.submit()
    async with local.http.stream("GET", f"/jobs/{job_id}/events") as answer:
        lines = [line async for line in answer.aiter_lines()]
    events = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data")]
    assert "completed" == events[-1]["status"]
    assert {"event: job"} == {line for line in lines if line.startswith("event")}
    assert 404 == (await local.http.get(f"/jobs/{job_id[:-1]}x/events")).status_code


async def test_what_clients_of_the_original_ask_besides(local: Service) -> None:
    """Name, capabilities, storage, and cleaning up."""
    await local.ended(await local.submit())
    about = (await local.http.get("/")).json()
    assert ("healthy", "cl-ml-serve") == (about["status"], about["service"])
    capabilities = (await local.http.get("/capabilities")).json()
    assert {"num_workers": 1, "capabilities": {"words": 8, "lengths": 8}} == capabilities
    size = (await local.http.get("/admin/jobs/storage/size")).json()
    assert (1, True) == (size["job_count"], size["total_size"] > 9)
    assert 0 == (await local.http.delete("/admin/jobs/cleanup")).json()["deleted_count"]
    cleaned = (await local.http.delete("/admin/jobs/cleanup?days=0")).json()
    assert {"deleted_count": 1, "freed_space": size["total_size"]} == cleaned
    assert [] == local.job_folders()


async def test_the_most_urgent_is_first(tmp_path: Path) -> None:
    """Of those that wait, 0 comes before 10, and the older of two equals first."""
    worker = Steered(held=True)
    async with service(tmp_path, worker, max_concurrent=1) as local:
        await local.runner.submit(request(0, name="first"))
        await worker.begun.wait()
        for number, (name, priority) in enumerate(
            [("low", 10), ("old", 5), ("new", 5), ("high", 0), ("mid", 3)], 1
        ):
            await local.runner.submit(request(number, priority, name))
        worker.go_on.set()
        for number in range(6):
            async for _ in local.runner.watch(request(number).job_id):
                pass
    assert ["first", "high", "mid", "old", "new", "low"] == worker.order


async def test_what_may_pass_is_tried_again(tmp_path: Path) -> None:
    """A node that is away costs an attempt, and the last error is shown meanwhile."""
    worker = Steered(NodeUnavailableError("away"), NodeUnavailableError("still away"))
    async with service(tmp_path, worker, retry_delay_s=0.01) as local:
        job_id = (await local.runner.submit(request())).job_id
        job = await local.ended(job_id)
    assert ("completed", 3, None) == (job["status"], job["attempts"], job["error_message"])


async def test_attempts_end(tmp_path: Path) -> None:
    """After as many as the YAML allows it is a dead letter; a person may try it again."""
    worker = Steered(*[NodeUnavailableError("away")] * 2)
    async with service(tmp_path, worker, retry_delay_s=0.01, max_attempts=2) as local:
        job_id = (await local.runner.submit(request())).job_id
        job = await local.ended(job_id)
        assert ("failed", True, 2, "away") == (
            job["status"],
            job["dead_letter"],
            job["attempts"],
            job["error_message"],
        )
        dead = (await local.http.get("/jobs?dead_letter=true")).json()
        assert 1 == dead["total"]
        assert "queued" == (await local.http.post(f"/jobs/{job_id}/retry")).json()["status"]
        assert "completed" == (await local.ended(job_id))["status"]
        assert 409 == (await local.http.post(f"/jobs/{job_id}/retry")).status_code


@pytest.mark.parametrize("error", [CorruptMediaError("damaged"), RuntimeError("a bug")])
async def test_what_will_not_pass_fails_at_once(tmp_path: Path, error: Exception) -> None:
    """Bad input, and our own mistakes: one attempt, and no dead letter."""
    async with service(tmp_path, Steered(error)) as local:
        job = await local.ended((await local.runner.submit(request())).job_id)
    kind = "corrupt-media" if isinstance(error, ClServeError) else "internal"
    assert ("failed", kind, 1, False) == (
        job["status"],
        job["error_kind"],
        job["attempts"],
        job["dead_letter"],
    )


async def test_progress_is_seen_and_work_is_cancelled(tmp_path: Path) -> None:
    """A running job shows how far it is; cancelled, its work ends and it has failed."""
    worker = Steered(held=True)
    async with service(tmp_path, worker) as local:
        job_id = (await local.runner.submit(request())).job_id
        await worker.begun.wait()
        shown = (await local.http.get(f"/jobs/{job_id}")).json()
        assert ("in_progress", 40) == (shown["status"], shown["progress"])
        cancelled = (await local.http.post(f"/jobs/{job_id}/cancel")).json()
        assert ("failed", "cancelled") == (cancelled["status"], cancelled["error_kind"])
        await worker.stopped.wait()
        again = (await local.http.post(f"/jobs/{job_id}/cancel")).json()
        assert cancelled["completed_at"] == again["completed_at"]


async def test_a_waiting_job_is_cancelled_before_it_begins(tmp_path: Path) -> None:
    """It never runs."""
    worker = Steered(held=True)
    async with service(tmp_path, worker, max_concurrent=1) as local:
        await local.runner.submit(request(0, name="first"))
        await worker.begun.wait()
        await local.runner.submit(request(1, name="never"))
        await local.runner.cancel(request(1).job_id)
        await local.runner.submit(request(2, name="last"))
        worker.go_on.set()
        await local.ended(request(2).job_id)
    assert ["first", "last"] == worker.order


async def test_a_job_is_removed_while_it_runs(tmp_path: Path) -> None:
    """Its work ends, and nothing of it is left."""
    worker = Steered(held=True)
    async with service(tmp_path, worker) as local:
        job_id = await local.submit()
        await worker.begun.wait()
        assert 204 == (await local.http.delete(f"/jobs/{job_id}")).status_code
        assert 404 == (await local.http.delete(f"/jobs/{job_id}")).status_code
        with pytest.raises(UnknownJobError):
            await local.runner.get(job_id)
        assert [] == local.job_folders()


async def test_limits_on_number_and_room(tmp_path: Path) -> None:
    """Too many waiting is a 503, no room a 507, and too large a 413; nothing is left of them."""
    worker = Steered(held=True)
    limits: dict[str, Any] = {
        "max_concurrent": 1,
        "max_queued": 1,
        "max_bytes": 2000,
        "max_upload_bytes": 3000,
    }
    async with service(tmp_path, worker, **limits) as local:
        await local.submit(body=b"a" * 1000)
        await worker.begun.wait()
        full = await local.http.post("/jobs/words", files={"file": ("a", b"a" * 1500)})
        large = await local.http.post("/jobs/words", files={"file": ("a", b"a" * 70_000_000)})
        await local.submit()
        many = await local.http.post("/jobs/words", files={"file": ("a", b"a")})
        assert [507, 413, 503] == [answer.status_code for answer in (full, large, many)]
        assert 2 == len(local.job_folders())


async def test_what_ran_is_run_again_after_the_runner_died(tmp_path: Path) -> None:
    """A runner that ends in the middle leaves its work to the next; nothing is lost."""
    held = Steered(held=True)
    async with service(tmp_path, held) as local:
        await local.runner.submit(request(0))
        await held.begun.wait()
        await local.runner.submit(request(1))
    worker = Steered()
    async with service(tmp_path, worker) as local:
        jobs = [await local.ended(request(number).job_id) for number in (0, 1)]
    assert ["completed"] * 2 == [job["status"] for job in jobs]
    assert [1, 1] == [job["attempts"] for job in jobs]


async def test_a_second_replica_stands_by(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It takes jobs and cancels them, and does none; the first one sees both."""
    monkeypatch.setattr(attempts, "LOOK_S", 0.05)
    first, second = Steered(held=True), Steered()
    async with service(tmp_path, first) as leading:
        await leading.runner.submit(request(0))
        await first.begun.wait()
        standing_by = JobRunner(leading.runner._spec, EventsSpec(), ("lengths",), second)
        await standing_by.submit(request(1))
        await standing_by.cancel(request(0).job_id)
        await first.stopped.wait()
        first.go_on.set()
        assert "completed" == (await leading.ended(request(1).job_id))["status"]
        standing_by._leading.cancel()
        standing_by._engine.close()
    assert [] == second.order


async def test_an_end_waits_for_the_database(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Work that is done is not done again because the table was locked when it ended."""
    monkeypatch.setattr(attempts, "LOOK_S", 0.05)
    worker = Steered()
    async with service(tmp_path, worker) as local:
        refused = [NodeUnavailableError("locked"), StorageFullError("full")]
        complete = local.runner._table.complete

        def complete_later(*args: Any) -> Job | None:  # noqa: ANN401 - as the table's own
            if refused:
                raise refused.pop()
            return complete(*args)

        monkeypatch.setattr(local.runner._table, "complete", complete_later)
        job = await local.ended((await local.runner.submit(request())).job_id)
    assert ("completed", 1, 1) == (job["status"], job["attempts"], len(worker.order))


async def test_a_runner_outlives_its_database(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """While the table can't be read the runner goes on to lead, and what runs goes on to run."""
    monkeypatch.setattr(attempts, "LOOK_S", 0.01)
    worker = Steered(held=True)
    async with service(tmp_path, worker) as local:
        job_id = (await local.runner.submit(request())).job_id
        await worker.begun.wait()
        asked = threading.Event()

        def locked(_: str) -> Job:
            asked.set()
            raise NodeUnavailableError("locked")

        with monkeypatch.context() as patched:
            patched.setattr(local.runner._table, "get", locked)
            await asyncio.to_thread(asked.wait, 10)
        local.runner.check_health()
        worker.go_on.set()
        assert "completed" == (await local.ended(job_id))["status"]
        local.runner.check_health()
