"""``cl-serve jobs`` on a service that restarts, breaks off or refuses."""

import json
import threading
from pathlib import Path

import httpx2
import pytest
from starlette.types import Receive, Scope, Send

from serve_app.cli.jobs import service as service_module
from tests.serve_app.cli.jobs.support import (
    COMPLETED,
    FAILED,
    JobsService,
    answering,
    hanging_up,
    make_job,
    run,
)

DATA = bytes(range(256)) * 2000
"""More than fits into one packet."""


def test_watch_of_a_failure(api: JobsService) -> None:
    """A failed job is the reason for the exit code, and what may be done is said."""
    api.jobs = {"a": make_job("a"), "b": make_job("b", **COMPLETED)}
    api.changes.append(FAILED)
    found = run(api, "watch", "a", "b")
    assert 1 == found.exit_code
    assert "a failed: no replica of hash could answer (node-unavailable)" in found.output
    assert "cl-serve jobs retry a" in found.output
    assert "b completed" in found.output


def test_watch_goes_on_after_a_restart(api: JobsService) -> None:
    """A service that is gone in the middle is waited for, and the job watched to its end."""
    api.jobs = {"a": make_job("a")}
    api.changes.extend([{"status": "in_progress", "progress": 50}, None])

    def restart() -> None:
        api.silent.wait(30)
        api.stop()
        api.changes.append(COMPLETED)
        api.start()

    restarting = threading.Thread(target=restart)
    restarting.start()
    found = run(api, "watch", "a")
    restarting.join()
    assert 0 == found.exit_code, found.output
    assert "Waiting for the service: the connection broke" in found.output
    said = [line for line in found.output.splitlines() if line.startswith("a ")]
    assert ["a queued, 0 %", "a in progress, 50 %", "a completed after 1.5 s"] == said


def test_watch_of_a_service_that_ends_its_streams(api: JobsService) -> None:
    """A stream that ends before its job is opened again; a job that is gone by then is an error."""
    api.jobs = {"a": make_job("a")}

    async def ending(scope: Scope, receive: Receive, send: Send) -> None:
        await api._app(scope, receive, send)
        del api.jobs["a"]

    api.script.append(ending)
    found = run(api, "watch", "a")
    assert 1 == found.exit_code
    assert "Waiting for the service: the connection ended" in found.output
    assert "there is no job 'a'" in found.output


@pytest.mark.parametrize(
    ("status", "said"),
    [(503, "Waiting for the service: no room\n"), (404, "Error: no room\n")],
)
def test_watch_with_a_problem(api: JobsService, status: int, said: str) -> None:
    """A problem within the stream is waited out, or ends the command, as any other."""
    api.jobs = {"a": make_job("a", **COMPLETED)}
    event = {"type": "about:blank", "title": "A problem", "status": status, "detail": "no room"}
    body = f"event: problem\ndata: {json.dumps(event)}\n\n".encode()
    api.script.append(answering(200, body, content_type="text/event-stream"))
    found = run(api, "watch", "a")
    assert said in found.output
    assert ("a completed" in found.output) == (status == 503)


@pytest.mark.parametrize(
    "words",
    [["show", "b"], ["watch", "b"], ["cancel", "b"], ["retry", "b"], ["rm", "b"], ["fetch", "b"]],
)
def test_unknown_job(api: JobsService, words: list[str]) -> None:
    """A job that is not there is named, with what to do, and is asked for once."""
    found = run(api, *words)
    assert 1 == found.exit_code
    assert "there is no job 'b'" in found.output
    assert "`cl-serve jobs list` shows the jobs there are" in found.output
    assert 1 == len(api.requests)


def test_unknown_task(api: JobsService) -> None:
    """A refused submission is told with the service's words."""
    found = run(api, "submit", "nothing", "--param", "a=b")
    assert 1 == found.exit_code
    assert "Error: unknown task 'nothing'\n" == found.output


def test_service_without_jobs(api: JobsService) -> None:
    """A graph without jobs says how to get them."""
    body = b'{"type": "urn:cl-ml-serve:problem:not-found", "detail": "there is no /jobs"}'
    api.script.append(answering(404, body))
    assert "`jobs: {}`" in run(api, "list").output


def test_answer_from_elsewhere(api: JobsService) -> None:
    """What is no answer of the service is told by its status."""
    api.script.append(answering(418, b"a teapot"))
    assert "418 I'm a Teapot" in run(api, "list").output


def test_busy_service(api: JobsService, tmp_path: Path) -> None:
    """A service that is full is asked again; the file is sent anew as a whole."""
    (tmp_path / "a").write_bytes(DATA)
    api.script.extend([answering(503, retry_after="0"), answering(502)])
    found = run(api, "submit", "hash", tmp_path / "a")
    assert 0 == found.exit_code
    assert "Waiting for the service" in found.output
    assert [("a", DATA)] == [sent["file"] for sent in api.uploads]


def test_lost_answer_is_no_second_job(api: JobsService, tmp_path: Path) -> None:
    """A submission whose answer was lost is made again under the same key."""
    (tmp_path / "a").write_bytes(DATA)

    async def deaf(scope: Scope, receive: Receive, send: Send) -> None:
        async def nothing(message: object) -> None:
            del message

        await api._app(scope, receive, nothing)
        await hanging_up(scope, receive, send)

    (tmp_path / "first").write_bytes(b"x")
    api.script.extend([api._app, deaf])
    found = run(api, "submit", "hash", tmp_path / "first", tmp_path / "a")
    assert 0 == found.exit_code, found.output
    assert ["first", "a", "a"] == [sent["file"][0] for sent in api.uploads]
    assert ["job-1", "job-2"] == list(api.jobs)


def test_lost_answer_to_a_retry(api: JobsService) -> None:
    """Whether a job was queued again is not known, and the command says so."""
    api.jobs = {"a": make_job("a", **FAILED), "b": make_job("b", **FAILED)}
    api.script.extend([api._app, hanging_up])
    found = run(api, "retry", "a", "b")
    assert 1 == found.exit_code
    assert "b: it is not known whether this was done: the connection broke" in found.output


def test_no_service(api: JobsService) -> None:
    """Where nothing has ever answered, nobody waits."""
    api.stop()
    found = run(api, "list")
    api.start()
    assert 1 == found.exit_code
    assert f"no service answers at {api.url}" in found.output


def test_service_that_stays_away(api: JobsService, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a time the command gives up, and says that jobs go on."""
    monkeypatch.setattr(service_module, "GIVE_UP_S", 0.02)
    api.script.extend([answering(503)] * 100)
    found = run(api, "list")
    assert 1 == found.exit_code
    assert "the service has been away for 0.02 s" in found.output


def test_download_that_is_cut_off(api: JobsService, tmp_path: Path) -> None:
    """A download that broke off goes on where it was, and is whole at the end."""
    api.jobs = {"a": make_job("a", **COMPLETED)}
    api.files["a"] = {"output/a.bin": DATA}
    ranges: list[str | None] = []

    async def half(scope: Scope, receive: Receive, send: Send) -> None:
        del scope, receive
        size = str(len(DATA)).encode()
        start = {"type": "http.response.start", "status": 200}
        await send({**start, "headers": [(b"content-length", size)]})
        body = {"type": "http.response.body", "body": DATA[: len(DATA) // 2]}
        await send({**body, "more_body": True})

    async def rest(scope: Scope, receive: Receive, send: Send) -> None:
        ranges.append(httpx2.Headers(scope["headers"]).get("range"))
        await api._app(scope, receive, send)

    api.script.extend([api._app, api._app, half, rest])
    found = run(api, "fetch", "a", "--to", tmp_path)
    assert 0 == found.exit_code, found.output
    assert DATA == (tmp_path / "output" / "a.bin").read_bytes()
    assert ["a.bin"] == [path.name for path in (tmp_path / "output").iterdir()]
    assert [f"bytes={len(DATA) // 2}-"] == ranges


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [(206, b"more than there is", "in place of"), (404, b"{}", "404 Not Found")],
)
def test_download_that_fails(
    api: JobsService, tmp_path: Path, status: int, body: bytes, expected: str
) -> None:
    """What can't be fetched whole leaves the file that was there."""
    api.jobs = {"a": make_job("a", **COMPLETED)}
    api.files["a"] = {"a.bin": b"new"}
    (tmp_path / "a.bin").write_bytes(b"old")
    api.script.extend([api._app, api._app, answering(status, body)])
    found = run(api, "fetch", "a", "--to", tmp_path)
    assert 1 == found.exit_code
    assert expected in found.output
    assert b"old" == (tmp_path / "a.bin").read_bytes()
    assert ["a.bin"] == [path.name for path in tmp_path.iterdir()]


@pytest.mark.parametrize("path", ["../a", "/etc/a", "output/../../a", ""])
def test_hostile_service(api: JobsService, tmp_path: Path, path: str) -> None:
    """A file that would land outside of the folder is not fetched."""
    api.jobs = {"a": make_job("a", **COMPLETED)}
    api.files["a"] = {path: b"x"}
    found = run(api, "fetch", "a", "--to", tmp_path / "to")
    assert 1 == found.exit_code
    assert "outside of its folder" in found.output
    assert [] == list(tmp_path.iterdir())


def test_folder_that_can_not_be_made(api: JobsService, tmp_path: Path) -> None:
    """What the system refuses is said without a traceback."""
    api.jobs = {"a": make_job("a", **COMPLETED)}
    api.files["a"] = {"output/a": b"x"}
    (tmp_path / "output").write_bytes(b"a file in the way")
    found = run(api, "fetch", "a", "--to", tmp_path)
    assert 1 == found.exit_code
    assert f"{tmp_path / 'output'}: File exists" in found.output


def test_wrong_url() -> None:
    """A URL that is none is said to be one."""
    service = JobsService()
    service.url = "http://[::1"
    found = run(service, "list")
    assert 1 == found.exit_code
    assert "--url" in found.output
