"""Jobs from Python and from the shell on a real stack, with a job runner that is killed."""

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from deployments.exif import Exif
from deployments.hash import Hash
from deployments.hash.schema import HashParams
from deployments.hls_streaming import HlsStreaming, validate
from deployments.runtime.errors import UnknownJobError
from deployments.runtime.random_media import VideoGenerator
from serve_app.cli.main import cli
from serve_app.handles import Client
from serve_app.jobs.client import Jobs
from serve_app.stack import RunningStack

WAIT_S = 120.0
UNKNOWN = "00000000-0000-4000-8000-000000000000"


@pytest.fixture(scope="module")
def jobs(handles: Client) -> Jobs:
    """Give the client of jobs."""
    return handles.jobs


@pytest.fixture
def photo_file(read: Callable[[str], bytes], tmp_path: Path) -> Path:
    """Give a file with a photograph."""
    file = tmp_path / "photo.jpg"
    file.write_bytes(read("obama"))
    return file


def kill_runner(running: RunningStack) -> None:
    """Kill the job runner without a warning."""
    for process in running.mark.processes():
        title = Path(f"/proc/{process.pid}/cmdline").read_bytes().decode()
        if title.startswith("ray::ServeReplica:cl-ml-serve:jobs"):
            process.send_signal(signal.SIGKILL)
            return
    pytest.fail("no job runner is running")


def test_from_a_file_to_its_result(jobs: Jobs, photo_file: Path, tmp_path: Path) -> None:
    """A job is submitted, waited for, read and saved."""
    submitted = jobs.submit(Hash, photo_file, HashParams(algorithm="md5"), priority=9)
    job = jobs.wait(submitted.job_id, WAIT_S)
    assert ("completed", 100.0) == (job.status, job.progress)
    assert job == jobs.get(job.job_id)
    assert ({"algorithm": "md5"}, 9) == (job.request.params, job.request.priority)
    sizes = dict(jobs.files(job.job_id))
    assert {"input/photo.jpg", "output/hash.json"} == set(sizes)
    data = jobs.read(job.job_id, "output/hash.json")
    assert sizes["output/hash.json"] == len(data)
    assert "md5" == json.loads(data)["algorithm"]
    jobs.save(job.job_id, "input/photo.jpg", tmp_path / "copy.jpg")
    assert photo_file.read_bytes() == (tmp_path / "copy.jpg").read_bytes()
    assert job.job_id in [found.job_id for found in jobs.list(task="hash", limit=100).jobs]
    jobs.remove(job.job_id)
    with pytest.raises(UnknownJobError):
        jobs.get(job.job_id)


async def test_several_outputs(jobs: Jobs, read: Callable[[str], bytes]) -> None:
    """The async form does the same; several capabilities are one job."""
    submitted = await jobs.submit_async([Hash, Exif], read("obama"))
    job = await jobs.wait_async(submitted.job_id, WAIT_S)
    assert "completed" == job.status
    assert "analyze" == job.request.task
    assert job.outcome is not None


def test_same_key_is_the_same_job(jobs: Jobs) -> None:
    """A second submission with a key returns the job of the first."""
    first = jobs.submit("clip_text_embedding", "a red car", idempotency_key="e2e-once")
    second = jobs.submit("clip_text_embedding", "a red car", idempotency_key="e2e-once")
    assert first.job_id == second.job_id


def test_failed_job(jobs: Jobs) -> None:
    """A job that can't be done is waited for as any other, and says why."""
    job = jobs.wait(jobs.submit("face_detection", b"no picture").job_id, WAIT_S)
    assert ("failed", "unsupported-media") == (job.status, job.error_kind)


def test_unknown_job(jobs: Jobs) -> None:
    """The runner's errors come as they are: in calls and in streams."""
    for call in (jobs.get, jobs.cancel, jobs.wait, jobs.files):
        with pytest.raises(UnknownJobError) as raised:
            call(UNKNOWN)
        assert "Traceback" not in str(raised.value)


def test_runner_is_killed(jobs: Jobs, running: RunningStack, tmp_path: Path) -> None:
    """A job outlives the runner, and so does who watches it, waits for it or submits another."""
    VideoGenerator(size=(640, 480), duration_s=8).write(tmp_path / "video.mp4")
    job = jobs.submit(HlsStreaming, tmp_path / "video.mp4")
    states = jobs.watch(job.job_id)
    next(states)
    kill_runner(running)
    other = jobs.submit(Hash, tmp_path / "video.mp4")
    *_, last = states
    assert "completed" == last.status
    assert "completed" == jobs.wait(other.job_id, WAIT_S).status
    for path, _ in jobs.files(job.job_id):
        if path.startswith("output/"):
            destination = tmp_path / path
            destination.parent.mkdir(parents=True, exist_ok=True)
            jobs.save(job.job_id, path, destination)
    assert [] == validate(tmp_path / "output")


def test_shell(running: RunningStack, photo_file: Path, tmp_path: Path) -> None:
    """The commands find the stack, and do the same over HTTP."""
    state = ["--state", str(Path(running.token).parent)]

    def run(*words: str) -> str:
        done = CliRunner().invoke(cli, ["jobs", *words, *state])
        assert done.exit_code == 0, done.output
        return done.output

    said = run("submit", "hash", str(photo_file), "--param", "algorithm=md5", "--watch")
    job_id = said.split()[0]
    assert f"{job_id} completed" in said
    assert job_id in run("list", "--task", "hash")
    assert "md5" == json.loads(run("show", job_id, "--json"))["params"]["algorithm"]
    run("fetch", job_id, "--to", str(tmp_path / "result"))
    assert (tmp_path / "result" / "output" / "hash.json").is_file()
    assert not (tmp_path / "result" / "input").exists()
    run("rm", job_id)
