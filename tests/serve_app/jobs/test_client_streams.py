"""Watching, waiting and fetching with the Python client of jobs, over a fake handle."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest

from deployments.runtime.errors import DeadlineExceededError, PathNotFoundError, UnknownJobError
from serve_app.jobs import remote_runner
from serve_app.jobs.job import Job, JobStatus
from tests.serve_app.jobs.fake_runner import LOST, Runner, jobs_of, raised_by_the_runner

UNKNOWN = UnknownJobError("there is no job 'x'")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pause for no time."""
    monkeypatch.setattr(remote_runner, "PAUSE_S", 0.0)


def test_watch() -> None:
    """A watch gives each state once and ends with the job, though the runner dies in between."""
    runner = Runner()
    jobs = jobs_of(runner)
    job = jobs.submit("hash", "text")
    runner.states = [("queued", 0), ("in_progress", 50), ("completed", 100)]
    runner.failures = [LOST]
    seen = [(state.status, state.progress) for state in jobs.watch(job.job_id)]
    assert runner.states == seen


class EndingRunner(Runner):
    """Ends its first stream of states early, as a runner that is being stopped."""

    async def watch(self, job_id: str) -> AsyncIterator[Job]:
        """Give what there is, one state more each time."""
        self.calls.append("watch")
        for status, progress in self.states[: self.calls.count("watch")]:
            yield replace(self.jobs[job_id], status=status, progress=progress)


def test_watch_of_a_runner_that_ends() -> None:
    """A stream that just ends is no end of the job."""
    runner = EndingRunner()
    jobs = jobs_of(runner)
    job = jobs.submit("hash", "text")
    runner.states = [("in_progress", 50), ("failed", 50)]
    assert ["in_progress", "failed"] == [state.status for state in jobs.watch(job.job_id)]
    assert 2 == runner.calls.count("watch")


def test_watch_that_is_left() -> None:
    """Who stops watching ends the stream at the runner."""
    runner = Runner()
    jobs = jobs_of(runner)
    job = jobs.submit("hash", "text")
    runner.states = [("queued", 0)]
    for _ in jobs.watch(job.job_id):
        break
    assert 1 == runner.cancelled


async def test_watch_async_that_is_left() -> None:
    """The same without a loop of its own."""
    runner = Runner()
    jobs = jobs_of(runner)
    job = await jobs.submit_async("hash", "text")
    runner.states = [("queued", 0)]
    async with aclosing(jobs.watch_async(job.job_id)) as changes:
        assert "queued" == (await anext(changes)).status
    assert 1 == runner.cancelled


def test_watch_of_an_unknown_job() -> None:
    """An error of the runner ends a watch."""
    runner = Runner()
    jobs = jobs_of(runner)
    job = jobs.submit("hash", "text")
    runner.states = [("queued", 0), ("in_progress", 0)]
    runner.failures = [raised_by_the_runner(UNKNOWN)]
    with pytest.raises(UnknownJobError, match=r"^there is no job 'x'$"):
        list(jobs.watch(job.job_id))


@pytest.mark.parametrize("status", ["completed", "failed"])
def test_wait(status: JobStatus) -> None:
    """Waiting returns the job when it has ended, however it did."""
    runner = Runner()
    jobs = jobs_of(runner)
    job = jobs.submit("hash", "text")
    runner.states = [("in_progress", 10), (status, 100)]
    assert status == jobs.wait(job.job_id, timeout_s=30).status


def test_wait_for_too_long() -> None:
    """The time limit ends the waiting, and the stream at the runner."""
    runner = Runner()
    jobs = jobs_of(runner)
    job = jobs.submit("hash", "text")
    runner.states = [("in_progress", 40)]
    with pytest.raises(DeadlineExceededError, match=r"goes on after .* in_progress, 40 %"):
        jobs.wait(job.job_id, timeout_s=0.05)
    assert 1 == runner.cancelled


class HangingRunner(Runner):
    """Answers nothing."""

    async def answer(self, method: str, *args: object) -> None:
        """Wait."""
        await asyncio.sleep(3600)


async def test_cancelled_call() -> None:
    """A caller that is cancelled itself cancels its call."""
    runner = HangingRunner()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await jobs_of(runner).get_async("x")
    assert 1 == runner.cancelled


def test_read_and_save(tmp_path: Path) -> None:
    """A file that was cut off in the middle is fetched anew, and whole."""
    runner = Runner(LOST)
    assert b"onetwo" == jobs_of(runner).read("x", "output/a")
    runner.failures = [LOST]
    jobs_of(runner).save("x", "output/a", tmp_path / "a")
    assert b"onetwo" == (tmp_path / "a").read_bytes()
    assert ["a"] == [path.name for path in tmp_path.iterdir()]


def test_save_that_fails(tmp_path: Path) -> None:
    """A file that can't be fetched leaves what was there, and nothing else."""
    (tmp_path / "a").write_bytes(b"old")
    runner = Runner(raised_by_the_runner(PathNotFoundError("no longer")))
    with pytest.raises(PathNotFoundError):
        jobs_of(runner).save("x", "output/a", tmp_path / "a")
    assert b"old" == (tmp_path / "a").read_bytes()
    assert ["a"] == [path.name for path in tmp_path.iterdir()]
