"""``cl-serve jobs`` on a service that works: what is sent, shown and kept."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from serve_app.cli.jobs import jobs, service
from tests.serve_app.cli.jobs.support import COMPLETED, FAILED, JobsService, make_job, run


def test_submit(api: JobsService, tmp_path: Path) -> None:
    """Each file becomes a job of its own, whose id is printed beside its name."""
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(name.encode())
    files = [tmp_path / "a.jpg", tmp_path / "b.jpg"]
    found = run(api, "submit", "hash", *files, "--param", "algorithm=md5", "--priority", "9")
    assert 0 == found.exit_code, found.output
    assert [f"job-1  {files[0]}", f"job-2  {files[1]}"] == found.output.splitlines()
    common = {"task": "hash", "priority": "9", "algorithm": "md5"}
    assert [{**common, "file": (name, name.encode())} for name in ("a.jpg", "b.jpg")] == api.uploads


def test_submit_without_a_file(api: JobsService) -> None:
    """A task that needs none is given its parameters alone."""
    found = run(api, "submit", "clip_text_embedding", "--param", "text=a red car=fast")
    assert "job-1\n" == found.output
    expected = {"task": "clip_text_embedding", "priority": "5", "text": "a red car=fast"}
    assert [expected] == api.uploads


def test_submit_and_watch(api: JobsService, tmp_path: Path) -> None:
    """With --watch the command ends with the job, and says how that ended."""
    (tmp_path / "a").write_bytes(b"x")
    api.changes.extend([{"status": "in_progress", "progress": 20}, COMPLETED])
    found = run(api, "submit", "hash", tmp_path / "a", "--watch")
    assert 0 == found.exit_code
    assert [
        "job-1 queued, 0 %",
        "job-1 in progress, 20 %",
        "job-1 completed after 1.5 s",
    ] == found.output.splitlines()[1:]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["submit", "hash", "/nowhere"], "does not exist"),
        (["submit", "hash", "--param", "md5"], "is not like name=value"),
        (["submit", "hash", "--priority", "11"], "0<=x<=10"),
        (["list", "--status", "done"], "in_progress"),
        (["retry"], "name jobs, or --dead-letter"),
        (["retry", "x", "--dead-letter"], "name jobs, or --dead-letter"),
    ],
)
def test_wrong_command(api: JobsService, words: list[str], expected: str) -> None:
    """A command that can't be meant is refused before anything is sent."""
    found = run(api, *words)
    assert 2 == found.exit_code
    assert expected in found.output
    assert [] == api.requests


def test_list(api: JobsService) -> None:
    """The list has a row for each job, and says when there are more."""
    assert "There are no jobs.\n" == run(api, "list").output
    api.jobs = {"a": make_job("a"), "b": make_job("b", **FAILED), "c": make_job("c", **COMPLETED)}
    found = run(api, "list", "--limit", "2").output
    assert ["a", "hash", "queued", "0", "%"] == found.splitlines()[3].split()[:5]
    assert "no replica of hash could answer (node-unavailable)" in found
    assert "2 of 3; --limit shows more." in found


def test_list_on_a_narrow_terminal(api: JobsService, monkeypatch: pytest.MonkeyPatch) -> None:
    """An id is shown whole, whatever else there is to say."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    job_id = "8b2d8e89-0968-45fa-99b6-21b64cb28b50"
    api.jobs = {job_id: make_job(job_id, **{**FAILED, "task_type": "clip_text_embedding"})}
    assert job_id in run(api, "list").output


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--status", "failed"], ["b"]),
        (["--dead-letter"], ["b"]),
        (["--task", "exif"], ["c"]),
        (["--task", "exif", "--status", "failed"], []),
    ],
)
def test_list_of_some(api: JobsService, words: list[str], expected: list[str]) -> None:
    """The options choose among the jobs."""
    api.jobs = {"a": make_job("a"), "b": make_job("b", **FAILED)}
    api.jobs["c"] = make_job("c", task_type="exif")
    found = run(api, "list", *words).output
    rows = found.splitlines()[3:-1]
    assert expected == [row.split()[0] for row in rows]
    assert bool(expected) == ("There are no such jobs." not in found)


def test_show(api: JobsService) -> None:
    """A job is shown for people and for programs."""
    api.jobs = {"a": make_job("a", params={"algorithm": "md5"}, **COMPLETED)}
    found = run(api, "show", "a").output
    assert "completed, 100 %" in found
    assert '"algorithm": "md5"' in found
    assert '"media_type": "image/jpeg"' in found
    assert api.jobs["a"] == json.loads(run(api, "show", "a", "--json").output)


def test_show_of_a_failure(api: JobsService) -> None:
    """A failed job is shown with the reason, the number of tries, and its batch."""
    api.jobs = {"a": make_job("a", batch_id="batch-7", **FAILED)}
    found = run(api, "show", "a").output
    assert "failed, given up, 40 %" in found
    assert "no replica of hash could answer (node-unavailable)" in found
    assert ["Attempts", "4"] in [line.split() for line in found.splitlines()]
    assert "batch-7" in found


def test_cancel_and_remove(api: JobsService) -> None:
    """Both take several jobs; one that is unknown does not keep the others from it."""
    api.jobs = {"a": make_job("a"), "c": make_job("c")}
    found = run(api, "cancel", "a", "b", "c")
    assert 1 == found.exit_code
    assert ["a is failed", "b: there is no job 'b'"] == found.output.splitlines()[:2]
    assert "cl-serve jobs list" in found.output
    assert "c is failed" in found.output
    assert 0 == run(api, "rm", "a", "c").exit_code
    assert {} == api.jobs


def test_retry(api: JobsService) -> None:
    """Failed jobs are queued again, by their ids or all that were given up."""
    api.jobs = {"a": make_job("a", **FAILED), "b": make_job("b", **COMPLETED)}
    found = run(api, "retry", "a", "b")
    assert 1 == found.exit_code
    assert "a is queued" in found.output
    assert "b: job b is completed" in found.output
    assert "No job was given up.\n" == run(api, "retry", "--dead-letter").output


def test_retry_of_all(api: JobsService, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that were given up are found first, however many pages there are."""
    monkeypatch.setattr(service, "PAGE", 2)
    api.jobs = {name: make_job(name, **FAILED) for name in "abcde"}
    assert 0 == run(api, "retry", "--dead-letter").exit_code
    assert {"queued"} == {job["status"] for job in api.jobs.values()}


@pytest.mark.parametrize("options", [[], ["--to", "else where"]])
def test_fetch(
    api: JobsService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    """All files of the result are fetched, in their folders, and old ones replaced."""
    monkeypatch.chdir(tmp_path)
    api.jobs = {"a": make_job("a", **COMPLETED)}
    api.files["a"] = {"output/a b%.json": b"{}", "faces/face_0.png": b"png", "empty": b""}
    api.files["a"]["input/a.jpg"] = b"what was sent"
    folder = tmp_path / (options[-1] if options else "a")
    (folder / "faces").mkdir(parents=True)
    (folder / "faces" / "face_0.png").write_bytes(b"old")
    found = run(api, "fetch", "a", *options)
    assert 0 == found.exit_code, found.output
    fetched = {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}
    del api.files["a"]["input/a.jpg"]
    assert api.files["a"] == fetched


def test_fetch_without_files(api: JobsService) -> None:
    """A result that is no file is pointed at; a job without a result is said to have none."""
    api.jobs = {"a": make_job("a", **COMPLETED), "b": make_job("b", status="in_progress")}
    assert "cl-serve jobs show a" in run(api, "fetch", "a").output
    found = run(api, "fetch", "b")
    assert 1 == found.exit_code
    assert "job b is in progress" in found.output


def test_terminal(api: JobsService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal there is a bar in place of lines; what stays is how it ended."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    (tmp_path / "a").write_bytes(b"x")
    api.changes.extend([{"status": "in_progress", "progress": 20}, COMPLETED])
    found = run(api, "submit", "hash", tmp_path / "a", "--watch").output
    assert "━" in found
    assert "job-1 in progress" not in found
    assert "job-1 completed after 1.5 s" in found
    api.files["job-1"] = {"output/a": b"result"}
    assert "━" in run(api, "fetch", "job-1", "--to", tmp_path).output
    assert b"result" == (tmp_path / "output" / "a").read_bytes()


def test_no_stack(tmp_path: Path) -> None:
    """Where no stack runs, and none is named, the message says what to do."""
    found = CliRunner().invoke(jobs, ["list", "--state", str(tmp_path)])
    assert 1 == found.exit_code
    assert "cl-serve up" in found.output
    assert "--url" in found.output


def test_starts_without_ray() -> None:
    """The command imports no Ray, which takes seconds on a small machine."""
    code = "import sys, serve_app.cli.jobs; sys.exit('ray' in sys.modules)"
    root = Path(__file__).parents[4]
    assert 0 == subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode
