"""The command against the real HTTP app: what is done, what fails, what is refused."""

import json
import os
import socket
import subprocess
import sys
import threading
from dataclasses import fields
from pathlib import Path

import pytest
from click.testing import CliRunner

from serve_app.cli.analyze import command, display
from serve_app.stack import RunningStack
from serve_app.stack.processes import MARKER
from tests.serve_app.cli.analyze.support import JPEG, LIMITS, QUICK, LocalService, read, run


def test_folder(service: LocalService, photos: Path, tmp_path: Path) -> None:
    """Every photo of a folder has one line, and nothing else is left beside the file."""
    out = tmp_path / "out.jsonl"
    result = run(service, photos, "--out", out)
    assert 0 == result.exit_code, result.output
    assert "failed: 0, done before: 0" in result.output
    first = read(out)["1.jpg"]
    assert str(photos / "1.jpg") == first["path"]
    assert "outputs=size" == first["request"]
    assert {"size": {"size_bytes": 4, "name": "1.jpg"}} == first["outputs"]
    assert {} == first["problems"]
    assert {"1.jpg", "2.jpg", "3.jpg"} == read(out).keys()
    assert {"out.jsonl", "photos"} == {path.name for path in tmp_path.iterdir()}


def test_second_run_sends_nothing(service: LocalService, photos: Path, tmp_path: Path) -> None:
    """What is done is skipped, from whatever folder and in whatever way the files are named."""
    out = tmp_path / "out.jsonl"
    run(service, photos, "--out", out)
    before = out.read_bytes()
    link = tmp_path / "link.jsonl"
    link.symlink_to(out)
    again = run(service, photos / "1.jpg", photos, photos, "--out", link)
    assert 0 == again.exit_code
    assert "done before: 3" in again.output
    assert (3, before) == (service.uploads, out.read_bytes())
    assert link.is_symlink()


def test_new_and_changed_files(service: LocalService, photos: Path, tmp_path: Path) -> None:
    """A new file is added, and the line of one that has changed is replaced."""
    out = tmp_path / "out.jsonl"
    run(service, photos, "--out", out)
    (photos / "2.jpg").write_bytes(JPEG + b"changed")
    os.utime(photos / "3.jpg", (1, 1))
    (photos / "4.jpg").write_bytes(JPEG)
    assert 0 == run(service, photos, "--out", out).exit_code
    assert 6 == service.uploads
    lines = read(out)
    assert 10 == lines["2.jpg"]["outputs"]["size"]["size_bytes"]
    assert "1970-01-01T00:00:01.000000+00:00" == lines["3.jpg"]["modified_at"]
    assert 4 == len(lines)


@pytest.mark.parametrize(
    ("name", "written", "sent"),
    [
        (b"a b.jpg", "a b.jpg", "a b.jpg"),
        ("schön 写真.jpg".encode(), "schön 写真.jpg", "schön 写真.jpg"),
        (b"two\nlines.jpg", "two\nlines.jpg", "two%0Alines.jpg"),
        (b'quote".jpg', 'quote".jpg', "quote%22.jpg"),
        (b"latin-\xfc.jpg", "latin-\\xfc.jpg", "latin-\\xfc.jpg"),
        (b"\x1b[31mred.jpg", "\x1b[31mred.jpg", "\x1b[31mred.jpg"),
    ],
)
def test_names(service: LocalService, tmp_path: Path, name: bytes, written: str, sent: str) -> None:
    """Any name a file can have is sent, kept as valid Unicode, and recognised again."""
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / os.fsdecode(name)).write_bytes(JPEG)
    out = tmp_path / "out.jsonl"
    assert 0 == run(service, folder, "--out", out).exit_code
    line = json.loads(out.read_text(encoding="utf-8"))
    assert f"{folder}/{written}" == line["path"]
    assert sent == line["outputs"]["size"]["name"]
    assert "done before: 1" in run(service, folder, "--out", out).output


@pytest.mark.parametrize(
    ("content", "status", "reason", "uploads"),
    [
        (b"", 400, "'f' is empty: 0 bytes", 1),
        (b"corrupt", 422, "The file is damaged: the file is cut off", 1),
        (b"x" * (LIMITS.max_upload_bytes + 1), 413, "Larger than the limit", 1),
        (b"crash", 500, "size failed unexpectedly", 2),
        (b"gone", 503, "A node can't answer just now: no replica answers", 6),
    ],
)
def test_failures(  # noqa: PLR0913, PLR0917 - one column each
    service: LocalService,
    tmp_path: Path,
    content: bytes,
    status: int,
    reason: str,
    uploads: int,
) -> None:
    """A failure is kept and shown with its reason; only the service's own are tried again."""
    file, out = tmp_path / "f", tmp_path / "out.jsonl"
    file.write_bytes(content)
    result = run(service, file, "--out", out)
    assert 1 == result.exit_code
    assert f"Failed:\n  {file}\n" in result.output
    assert reason in result.output
    assert status == read(out)["f"]["problem"]["status"]
    again = run(service, file, "--out", out)
    assert 1 == again.exit_code
    assert reason in again.output
    assert (uploads, 1) == (service.uploads, len(read(out)))


def test_retry_failed(service: LocalService, tmp_path: Path) -> None:
    """With the option a file is sent again that failed by itself, and its line replaced."""
    file, out = tmp_path / "f", tmp_path / "out.jsonl"
    file.write_bytes(b"corrupt")
    run(service, file, "--out", out)
    assert 1 == run(service, file, "--out", out, "--retry-failed").exit_code
    assert (2, 1) == (service.uploads, len(read(out)))


def test_part_of_the_outputs(service: LocalService, tmp_path: Path) -> None:
    """What succeeds is kept beside the problem of what doesn't, and the file counts as failed."""
    file, out = tmp_path / "f", tmp_path / "out.jsonl"
    file.write_bytes(b"text")
    result = run(service, file, "--out", out, outputs="vector,size")
    assert 1 == result.exit_code
    assert "vector: Not a supported format: expected a picture, got text" in result.output
    line = read(out)["f"]
    assert (["size"], ["vector"]) == (list(line["outputs"]), list(line["problems"]))
    run(service, file, "--out", out, outputs="size,vector")
    assert 1 == service.uploads


def test_failed_program(service: LocalService, tmp_path: Path) -> None:
    """A part that may succeed later is tried again, in this run and in the next."""
    file, out = tmp_path / "f", tmp_path / "out.jsonl"
    file.write_bytes(b"tool")
    for runs in (1, 2):
        run(service, file, "--out", out, outputs="size,vector")
        assert runs * QUICK.tries == service.uploads
    assert 503 == read(out)["f"]["problems"]["vector"]["status"]


def test_many_failures_are_not_all_shown(
    service: LocalService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The screen shows some failures and says where the others are."""
    monkeypatch.setattr(display, "MAX_SHOWN", 2)
    files = [tmp_path / name for name in "abc"]
    for file in files:
        file.write_bytes(b"corrupt")
    result = run(service, *files, "--out", tmp_path / "out.jsonl")
    assert 2 == result.output.count("The file is damaged")
    assert f"… and 1 more; all are in {tmp_path}/out.jsonl" in result.output


def test_parameters(service: LocalService, photos: Path, tmp_path: Path) -> None:
    """Parameters reach the service, and belong to what the results answer."""
    out = tmp_path / "out.jsonl"
    run(service, photos, "--out", out, "--param", "size.factor=10")
    line = read(out)["1.jpg"]
    assert 40 == line["outputs"]["size"]["size_bytes"]
    assert "outputs=size&size.factor=10" == line["request"]


@pytest.mark.parametrize(
    ("outputs", "arguments"),
    [("size,vector", []), ("vector", []), ("size", ["--param", "size.factor=2"])],
)
def test_results_are_not_mixed(
    service: LocalService, photos: Path, tmp_path: Path, outputs: str, arguments: list[str]
) -> None:
    """Other outputs or parameters are refused where there are results, which stay as they are."""
    out = tmp_path / "out.jsonl"
    run(service, photos, "--out", out)
    before = out.read_bytes()
    result = run(service, photos, "--out", out, *arguments, outputs=outputs)
    assert 2 == result.exit_code
    assert "holds results of another request:\n  there: outputs=size\n" in result.output
    assert "name another file with --out" in result.output
    assert before == out.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--outputs", "sise"], 2, "unknown output 'sise'. Did you mean 'size'? This service"),
        (["--outputs", "faces"], 2, "unknown output 'faces'. This service offers: size, vector"),
        (["--outputs", "words"], 2, "words: takes texts, and this command sends files"),
        (["--outputs", "absent"], 1, "absent: not installed: cl-serve models pull"),
        (["--param", "size.factor=0"], 2, "size.factor: expected a number greater"),
        (["--param", "size.facto=1"], 2, "size.facto: unknown parameter"),
        (["--param", "factor=1"], 2, "factor=1 is not like node.param=value"),
        (["--param", "size.factor"], 2, "size.factor is not like node.param=value"),
        (["--out", "out.csv"], 2, "out.csv ends in neither .jsonl nor .parquet"),
        (["--out", "missing/out.jsonl"], 2, "there is no folder missing"),
        (["missing"], 2, "Path 'missing' does not exist"),
        (["--url", "localhost"], 1, "no service answers at localhost"),
        (["--url", "http://localhost:port"], 2, "Invalid value for --url: Invalid port"),
    ],
)
def test_refused_before_the_first_file(  # noqa: PLR0913, PLR0917 - one column each
    service: LocalService,
    photos: Path,
    tmp_path: Path,
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    """What would fail for every file alike is said once, and nothing is sent or written."""
    result = run(service, photos, "--out", tmp_path / "out.jsonl", *arguments)
    assert code == result.exit_code, result.output
    assert message in " ".join(result.output.split())
    assert 0 == service.uploads
    assert {"photos"} == {path.name for path in tmp_path.iterdir()}


def test_nobody_answers(photos: Path, tmp_path: Path) -> None:
    """Without a service the message says how to start one."""
    result = run(LocalService(), photos, "--out", tmp_path / "out.jsonl")
    assert 1 == result.exit_code
    assert "Start one with `cl-serve up`, or name another with --url" in result.output


def test_somebody_else_answers(service: LocalService, photos: Path, tmp_path: Path) -> None:
    """A server of another kind is recognised."""
    other = LocalService()
    other.url = f"{service.url}/elsewhere"
    result = run(other, photos, "--out", tmp_path / "out.jsonl")
    assert 1 == result.exit_code
    assert "is no cl-ml-serve that is ready: v1/capabilities gave 404" in result.output


def test_the_stack_of_this_machine(service: LocalService, photos: Path, tmp_path: Path) -> None:
    """Without --url the files go to the stack that runs; without one the message says so."""
    state, out = tmp_path / "state", tmp_path / "out.jsonl"
    arguments = [str(photos), "--outputs", "size", "--out", str(out), "--state", str(state)]
    nothing = CliRunner().invoke(command.analyze, arguments)
    assert 1 == nothing.exit_code
    assert "no stack runs on this machine. Start one with `cl-serve up`" in nothing.output
    state.mkdir()
    names = (field.name for field in fields(RunningStack))
    content = dict.fromkeys(names, "") | {"stack_id": "analyze-test", "url": service.url}
    (state / "stack.json").write_text(json.dumps(content))
    marked = {**os.environ, MARKER: "analyze-test"}
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=-1, env=marked) as process:
        found = CliRunner().invoke(command.analyze, arguments)
        process.communicate(b"\n")
    assert 0 == found.exit_code, found.output
    assert 3 == len(read(out))


def test_proxy_of_the_environment(
    service: LocalService, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy for the internet is not asked for a service of this network."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    assert 0 == run(service, photos, "--out", tmp_path / "out.jsonl").exit_code


def test_no_files(service: LocalService, tmp_path: Path) -> None:
    """An empty folder is no mistake: all that there is to do is done."""
    (tmp_path / "photos").mkdir()
    result = run(service, tmp_path / "photos", "--out", tmp_path / "out.jsonl")
    assert (0, {}) == (result.exit_code, read(tmp_path / "out.jsonl"))
    assert "Done: 0" in result.output


def test_port_without_http(photos: Path, tmp_path: Path) -> None:
    """A port that hangs up at once is no service either."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        nobody = LocalService()
        nobody.url = f"http://127.0.0.1:{listener.getsockname()[1]}"

        def hang_up() -> None:
            connection, _ = listener.accept()
            connection.close()

        closer = threading.Thread(target=hang_up)
        closer.start()
        result = run(nobody, photos, "--out", tmp_path / "out.jsonl")
        closer.join()
    assert 1 == result.exit_code
    assert "no service answers at" in result.output
