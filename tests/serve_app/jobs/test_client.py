"""The Python client of jobs over a fake handle: what is sent, and calls that are cut off."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from ray.exceptions import RayTaskError
from ray.serve.exceptions import BackPressureError

from deployments.clip_similarity import ClipSimilarity
from deployments.face_detection import FaceDetection
from deployments.face_detection.schema import FaceDetectionParams
from deployments.face_embedding import FaceEmbedding
from deployments.hash import Hash
from deployments.hash.schema import HashParams
from deployments.runtime.capability import Params
from deployments.runtime.errors import (
    EmptyInputError,
    InvalidParameterError,
    NodeUnavailableError,
    OverloadedError,
    UnknownJobError,
    UnknownOutputError,
)
from deployments.runtime.types import Media, Upload
from serve_app import handles
from serve_app.arguments import Source
from serve_app.handles import Client
from serve_app.jobs import remote_runner
from serve_app.jobs.client import Work
from serve_app.jobs.job import JobPage
from tests.serve_app.jobs.fake_runner import LOST, Runner, jobs_of, raised_by_the_runner

UNKNOWN = UnknownJobError("there is no job 'x'")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pause for no time, and send pieces of four bytes."""
    monkeypatch.setattr(remote_runner, "PAUSE_S", 0.0)
    monkeypatch.setattr(remote_runner, "CHUNK_BYTES", 4)


@pytest.mark.parametrize(
    ("work", "params", "task", "outputs", "node_params", "shown"),
    [
        (Hash, (), "hash", ("hash",), {}, {}),
        ("my_hash", (), "my_hash", ("my_hash",), {}, {}),
        (
            Hash,
            (HashParams(algorithm="md5"),),
            "hash",
            ("hash",),
            {"hash": {"algorithm": "md5"}},
            {"algorithm": "md5"},
        ),
        (
            FaceEmbedding,
            (FaceDetectionParams(confidence_threshold=0.5),),
            "face_embedding",
            ("face_embedding",),
            {"face_detection": {"confidence_threshold": 0.5}},
            {"face_detection.confidence_threshold": 0.5},
        ),
        (
            [FaceDetection, "hash"],
            (HashParams(algorithm="md5"),),
            "analyze",
            ("face_detection", "hash"),
            {"hash": {"algorithm": "md5"}},
            {"hash.algorithm": "md5"},
        ),
    ],
)
def test_request(  # noqa: PLR0913, PLR0917 - a table
    work: Work,
    params: tuple[Params, ...],
    task: str,
    outputs: tuple[str, ...],
    node_params: dict[str, Any],
    shown: dict[str, Any],
) -> None:
    """The task, its outputs and each node's parameters are those that were asked for."""
    request = jobs_of(Runner()).submit(work, b"photo", *params).request
    assert task == request.task
    assert outputs == request.outputs
    assert node_params == request.node_params
    assert shown == request.params


def test_options() -> None:
    """Priority, webhook and key go along; without them there are defaults."""
    jobs = jobs_of(Runner())
    url = "https://example.org/hook"
    job = jobs.submit(Hash, b"x", priority=9, webhook=url, idempotency_key="k")
    assert (9, url, "k") == (
        job.request.priority,
        job.request.webhook,
        job.request.idempotency_key,
    )
    plain = jobs.submit(Hash, b"x").request
    assert (5, None, None) == (plain.priority, plain.webhook, plain.idempotency_key)


@pytest.mark.parametrize(
    ("source", "expected", "received"),
    [
        (b"ten bytes!", ("file", None, 10, ()), b"ten bytes!"),
        (Media(b"12345678", "C/../.a b.jpg"), ("a_b.jpg", None, 8, ()), b"12345678"),
        (Media(path="/photos/a.jpg"), (None, "/photos/a.jpg", 0, ()), None),
        ("a red car", (None, None, 0, ("a red car",)), None),
        (Upload(Media(b"x", "n"), ("a", "b")), ("n", None, 1, ("a", "b")), b"x"),
    ],
)
def test_sources(source: Source, expected: tuple[Any, ...], received: bytes | None) -> None:
    """Bytes, paths on the nodes' disk and texts get where the runner looks for them."""
    runner = Runner()
    request = jobs_of(runner).submit(ClipSimilarity, source).request
    found = (request.input_name, request.input_path, request.input_bytes, request.texts)
    assert expected == found
    assert received == runner.inputs.get(request.job_id)


def test_file_is_sent_in_pieces(tmp_path: Path) -> None:
    """A file is sent piece by piece; one that is cut off is sent again at the same place."""
    file = tmp_path / "a.bin"
    file.write_bytes(b"0123456789")
    runner = Runner(LOST)
    request = jobs_of(runner).submit(Hash, file).request
    assert ("a.bin", 10) == (request.input_name, request.input_bytes)
    assert b"0123456789" == runner.inputs[request.job_id]
    assert ["receive"] * 4 + ["submit"] == runner.calls


@pytest.mark.parametrize(
    ("work", "source", "priority", "expected"),
    [
        (Hash, b"", 5, EmptyInputError),
        (Hash, b"x", -1, InvalidParameterError),
        (Hash, b"x", 11, InvalidParameterError),
        ([], b"x", 5, UnknownOutputError),
        (Hash, Path("/nowhere/at/all"), 5, FileNotFoundError),
    ],
)
def test_refused(work: Work, source: Source, priority: int, expected: type[Exception]) -> None:
    """What can't become a job is refused before anything is queued."""
    runner = Runner()
    with pytest.raises(expected):
        jobs_of(runner).submit(work, source, priority=priority)
    assert [] == runner.calls


def test_submission_is_made_again() -> None:
    """A submission that was cut off is made again under the same id."""
    runner = Runner(LOST, LOST)
    job = jobs_of(runner).submit("hash", "text")
    assert ["submit"] * 3 == runner.calls
    assert [job.job_id] == list(runner.jobs)


def test_reading_calls() -> None:
    """Get, list and files return what the runner says, and are made again when cut off."""
    runner = Runner()
    jobs = jobs_of(runner)
    job = jobs.submit(Hash, b"x")
    runner.failures = [LOST, asyncio.CancelledError()]
    assert job == jobs.get(job.job_id)
    runner.failures = [LOST]
    assert JobPage((job,), 1) == jobs.list(status="queued")
    assert JobPage((), 0) == jobs.list(status="failed", limit=1)
    assert (("output/a", 6),) == jobs.files(job.job_id)


def test_changing_calls() -> None:
    """Cancel, retry and remove are passed on."""
    runner = Runner()
    jobs = jobs_of(runner)
    job = jobs.submit("hash", "text")
    assert job == jobs.cancel(job.job_id)
    assert job == jobs.retry(job.job_id)
    jobs.remove(job.job_id)
    assert {} == runner.jobs
    assert ["submit", "cancel", "retry", "remove"] == runner.calls


@pytest.mark.parametrize("method", ["retry", "remove"])
def test_changing_call_is_not_made_again(method: str) -> None:
    """A change that was cut off may have been made, so whoever asked is told to look."""
    runner = Runner(LOST)
    with pytest.raises(NodeUnavailableError, match="before it could confirm"):
        getattr(jobs_of(runner), method)("x")
    assert [method] == runner.calls


def test_runner_stays_away() -> None:
    """After enough tries the caller is told where to look."""
    runner = Runner(*[LOST] * remote_runner.ATTEMPTS)
    with pytest.raises(NodeUnavailableError, match="cl-serve status"):
        jobs_of(runner).get("x")
    assert remote_runner.ATTEMPTS == len(runner.calls)


@pytest.mark.parametrize(
    ("error", "expected", "message"),
    [
        (raised_by_the_runner(UNKNOWN), UnknownJobError, r"^there is no job 'x'$"),
        (BackPressureError(1, 1), OverloadedError, "try again shortly"),
        (RayTaskError("get", "trace", KeyError("a bug")).as_instanceof_cause(), KeyError, "trace"),
    ],
)
@pytest.mark.parametrize("method", ["get", "retry"])
def test_errors(method: str, error: Exception, expected: type[Exception], message: str) -> None:
    """The runner's own errors come as they are, without a trace, and once."""
    runner = Runner(error)
    with pytest.raises(expected, match=message):
        getattr(jobs_of(runner), method)("x")
    assert [method] == runner.calls


def test_graph_without_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph without jobs says how to get them."""

    def find(name: str, app_name: str) -> None:
        raise KeyError(f"{name} of {app_name}")

    monkeypatch.setattr(handles.serve, "get_deployment_handle", find)
    client = Client(Runner(), "app")  # pyright: ignore[reportArgumentType] - as above
    with pytest.raises(handles.StackError, match=r"add `jobs: \{\}` to the args"):
        _ = client.jobs


def test_jobs_of_a_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client finds the runner of its own application, once."""
    found: list[tuple[str, str]] = []

    def find(name: str, app_name: str) -> Runner:
        found.append((name, app_name))
        return Runner()

    monkeypatch.setattr(handles.serve, "get_deployment_handle", find)
    client = Client(Runner(), "app")  # pyright: ignore[reportArgumentType] - as above
    assert client.jobs is client.jobs
    assert [("jobs", "app")] == found
