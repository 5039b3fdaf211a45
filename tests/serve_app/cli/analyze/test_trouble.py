"""A service that is busy, breaks off or stays away, and files that change meanwhile."""

import os
from pathlib import Path
from typing import Any

import pytest
from starlette.types import ASGIApp

from serve_app.cli.analyze import command, display
from serve_app.cli.analyze.service import Patience
from serve_app.config import Limits
from tests.serve_app.cli.analyze.support import (
    JPEG,
    LocalService,
    answering,
    hanging_up,
    read,
    run,
)


@pytest.mark.parametrize(
    "trouble",
    [
        answering(503, retry_after="0"),
        answering(503, retry_after="Sun, 22 Nov 2020 10:00:00 GMT"),
        answering(503, retry_after="soon"),
        answering(429),
        answering(502),
        answering(200, b"<html>"),
        hanging_up,
    ],
)
def test_trouble_that_passes(
    service: LocalService,
    photos: Path,
    tmp_path: Path,
    trouble: ASGIApp,
) -> None:
    """A storm of refusals costs no file, and one line says that the service is waited for."""
    service.script.extend([trouble] * 5)
    result = run(service, photos, "--out", tmp_path / "out.jsonl")
    assert 0 == result.exit_code, result.output
    assert 3 == len(read(tmp_path / "out.jsonl"))
    assert 1 == result.output.count("Waiting for the service: ")
    assert 1 == result.output.count("The service answers again.")
    assert 8 == service.uploads


def test_overload_is_never_the_files_fault(photos: Path, tmp_path: Path) -> None:
    """A service that is busy with others for long costs no file, however often it says so."""
    service = LocalService(Limits(max_concurrent_requests=1, retry_after_s=0))
    service.start()
    result = run(service, photos, "--out", tmp_path / "out.jsonl", "--concurrency", 8)
    service.stop()
    assert 0 == result.exit_code, result.output


def test_a_proxy_with_a_limit(service: LocalService, photos: Path, tmp_path: Path) -> None:
    """A proxy's 413 is about the file, though the service did not say it."""
    service.script.append(answering(413))
    result = run(service, photos / "1.jpg", "--out", tmp_path / "out.jsonl")
    assert 1 == result.exit_code
    assert 413 == read(tmp_path / "out.jsonl")["1.jpg"]["problem"]["status"]


def test_the_service_changes_its_graph(service: LocalService, photos: Path, tmp_path: Path) -> None:
    """When an output disappears the run ends, and no file is marked as failed for that."""
    gone = b'{"type": "urn:cl-ml-serve:problem:unknown-output", "detail": "no size", "status": 404}'
    service.script.append(answering(404, gone))
    result = run(service, photos, "--out", tmp_path / "out.jsonl", "--concurrency", 1)
    assert 1 == result.exit_code
    assert "the service no longer takes this request: no size" in result.output
    assert "the same command goes on" in result.output
    assert {} == read(tmp_path / "out.jsonl")


@pytest.mark.parametrize(
    ("away", "reason"),
    [
        (answering(503), "the answer was 503 Service Unavailable, which is none of the service"),
        (hanging_up, "the connection broke off"),
    ],
)
def test_the_service_stays_away(  # noqa: PLR0913, PLR0917 - one column each
    service: LocalService,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    away: ASGIApp,
    reason: str,
) -> None:
    """After long enough the run ends with what is done, and the same command goes on."""
    monkeypatch.setattr(command, "PATIENCE", Patience(0.001, 0.01, 0.05, 3))

    def disappear(number: int) -> None:
        if number > 1:
            service.broken = True
            service.script.append(away)

    service.on_upload = disappear
    out = tmp_path / "out.jsonl"
    stopped = run(service, photos, "--out", out, "--concurrency", 1)
    assert 1 == stopped.exit_code
    assert f"the service has been away for 0.05 s: {reason}" in stopped.output
    assert f"What is done is kept in {out}; the same command goes on." in stopped.output
    assert ["1.jpg"] == list(read(out))
    service.reset()
    assert 0 == run(service, photos, "--out", out).exit_code
    assert ["1.jpg", "2.jpg", "3.jpg"] == sorted(read(out))


def test_lines_without_a_terminal(
    service: LocalService, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a log there is a line now and then with what is done, failed and left."""
    monkeypatch.setattr(display, "LINE_EVERY_S", 0.0)
    result = run(service, photos, "--out", tmp_path / "out.jsonl")
    assert "1 of 3 files, 0 failed, " in result.output
    assert "3 of 3 files, 0 failed, " in result.output
    assert "0 min left" in result.output


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda file: file.write_bytes(b"other"), "it changed while it was sent"),
        (lambda file: file.unlink(), "No such file"),
    ],
)
def test_change_while_it_is_analysed(
    service: LocalService,
    photos: Path,
    tmp_path: Path,
    change: Any,  # noqa: ANN401 - a function
    reason: str,
) -> None:
    """No result is kept of a file that is another one by the time of the answer."""
    service.on_upload = lambda _number: change(photos / "1.jpg")
    result = run(service, photos / "1.jpg", "--out", tmp_path / "out.jsonl")
    assert 1 == result.exit_code
    assert f"The file can't be read: {reason}" in result.output
    assert "outputs" not in read(tmp_path / "out.jsonl")["1.jpg"]


@pytest.mark.parametrize("size_bytes", [1_000_000, 30_000_000])
def test_change_while_it_is_sent(tmp_path: Path, size_bytes: int) -> None:
    """A large file that shrinks or grows on its way is a failure, tried again by the next run."""
    service = LocalService(Limits(max_upload_bytes=100_000_000))
    service.start()
    file, out = tmp_path / "big.jpg", tmp_path / "out.jsonl"
    file.write_bytes(JPEG + bytes(20_000_000))
    # The server has read the head only, and what the system buffers is far less than the file.
    service.on_upload = lambda _number: os.truncate(file, size_bytes)
    result = run(service, file, "--out", out)
    assert 1 == result.exit_code
    assert "The file can't be read: it changed while it was sent" in result.output
    service.on_upload = lambda _number: None
    assert 0 == run(service, file, "--out", out).exit_code
    assert size_bytes == read(out)["big.jpg"]["size_bytes"]
    service.stop()


def test_files_that_cannot_be_read(service: LocalService, photos: Path, tmp_path: Path) -> None:
    """One that fails on reading, one that vanishes meanwhile and a dead link keep no other back."""
    (photos / "0-unreadable.jpg").symlink_to("/proc/self/mem")
    (photos / "0-dead-link.jpg").symlink_to("nothing")
    service.on_upload = lambda _number: (photos / "3.jpg").unlink(missing_ok=True)
    result = run(service, photos, "--out", tmp_path / "out.jsonl", "--concurrency", 1)
    assert 1 == result.exit_code
    lines = read(tmp_path / "out.jsonl")
    assert "Input/output error" == lines["0-unreadable.jpg"]["problem"]["detail"]
    assert "No such file or directory" == lines["3.jpg"]["problem"]["detail"]
    assert {"1.jpg", "2.jpg"} == {name for name, line in lines.items() if "outputs" in line}
    assert "0-dead-link.jpg\n      It can't be read: No such file" in result.output
