"""Runs in a process of their own that are killed, interrupted, doubled, or out of disk space."""

import resource
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.serve_app.cli.analyze.support import LocalService, read, run, started

FULL_AFTER_BYTES = 300
"""One line fits, and a part of the second."""


class Gate:
    """Holds back all uploads from one number on, until it is opened."""

    def __init__(self, service: LocalService, number: int) -> None:
        """Stand before upload ``number``."""
        self._number = number
        self._reached = threading.Event()
        self._open = threading.Event()
        service.on_upload = self._hold

    def wait(self) -> None:
        """Return when an upload is held back."""
        assert self._reached.wait(60)

    def open(self) -> None:
        """Let all through, those held back as well."""
        self._open.set()

    def _hold(self, number: int) -> None:
        if number >= self._number:
            self._reached.set()
            self._open.wait(60)


@pytest.fixture
def service() -> Iterator[LocalService]:
    """Give a service of its own: a killed run leaves an upload that nobody waits for."""
    service = LocalService()
    service.start()
    yield service
    service.stop()


@pytest.mark.parametrize("half", [b"", b"\0\0\0", b'{"path":"/x', b'{"path":"/x","size_bytes":1}'])
def test_killed(service: LocalService, photos: Path, tmp_path: Path, half: bytes) -> None:
    """After kill -9 all lines are whole, and half of one from a power cut is done again."""
    out = tmp_path / "out.jsonl"
    gate = Gate(service, 3)
    with started(service, photos, "--out", out) as process:
        gate.wait()
        process.send_signal(signal.SIGKILL)
    gate.open()
    assert ["1.jpg", "2.jpg"] == list(read(out))
    with out.open("ab") as file:
        file.write(half)
    again = run(service, photos, "--out", out)
    assert 0 == again.exit_code, again.output
    assert "done before: 2" in again.output
    assert ["1.jpg", "2.jpg", "3.jpg"] == list(read(out))


def test_killed_within_the_first_line(service: LocalService, photos: Path, tmp_path: Path) -> None:
    """A file with nothing but half a line of ours is begun anew."""
    out = tmp_path / "out.jsonl"
    out.write_bytes(b'{"pa')
    assert 0 == run(service, photos, "--out", out).exit_code
    assert 3 == len(read(out))


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"]
)
def test_interrupted(
    service: LocalService, photos: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    """An interrupted run keeps what is done, says how to go on, and goes on."""
    out = tmp_path / "out.jsonl"
    gate = Gate(service, 3)
    with started(service, photos, "--out", out) as process:
        gate.wait()
        process.send_signal(number)
        output, _ = process.communicate()
    gate.open()
    assert code == process.returncode, output
    assert f"Interrupted. What is done is kept in {out}; the same command goes on." in output
    assert "Traceback" not in output
    assert ["1.jpg", "2.jpg"] == list(read(out))
    assert 0 == run(service, photos, "--out", out).exit_code
    assert 3 == len(read(out))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_parquet_after_a_stop(
    service: LocalService, photos: Path, tmp_path: Path, number: signal.Signals
) -> None:
    """A clean stop leaves a Parquet file, a kill its journal; either is gone on from."""
    out, journal = tmp_path / "out.parquet", tmp_path / "out.parquet.partial.jsonl"
    gate = Gate(service, 3)
    with started(service, photos, "--out", out) as process:
        gate.wait()
        process.send_signal(number)
        process.communicate()
    gate.open()
    killed = number is signal.SIGKILL
    assert (killed, not killed) == (journal.exists(), out.exists())
    again = run(service, photos, "--out", out)
    assert 0 == again.exit_code, again.output
    assert "done before: 2" in again.output
    assert not journal.exists()
    names = [Path(path).name for path in pq.read_table(out)["path"].to_pylist()]
    assert ["1.jpg", "2.jpg", "3.jpg"] == names


def test_two_runs_at_once(service: LocalService, photos: Path, tmp_path: Path) -> None:
    """A second run on the same file is refused while the first one lasts."""
    out = tmp_path / "out.jsonl"
    gate = Gate(service, 1)
    with started(service, photos, "--out", out) as process:
        gate.wait()
        second = run(service, photos, "--out", out)
        gate.open()
        process.communicate()
    assert 1 == second.exit_code
    assert f"another `cl-serve analyze` writes {out} just now" in second.output
    assert 0 == process.returncode
    assert 3 == len(read(out))


def test_service_that_comes_back(service: LocalService, photos: Path, tmp_path: Path) -> None:
    """While the service is away the run waits, and then goes on without losing a file."""
    out = tmp_path / "out.jsonl"
    gate = Gate(service, 2)
    with started(service, photos, "--out", out) as process:
        gate.wait()
        stopping = threading.Thread(target=service.stop)  # lasts while the gate holds an upload
        stopping.start()
        assert process.stdout is not None
        assert any("Waiting for the service: " in line for line in process.stdout)
        gate.open()
        stopping.join()
        service.start()
        output, _ = process.communicate()
    assert 0 == process.returncode, output
    assert "The service answers again." in output
    assert 3 == len(read(out))


def _limit_file_size() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (FULL_AFTER_BYTES, FULL_AFTER_BYTES))


def test_full_disk(service: LocalService, photos: Path, tmp_path: Path) -> None:
    """A full disk ends the run with whole lines only, and later the same command goes on."""
    out = tmp_path / "out.jsonl"
    with started(service, photos, "--out", out, before=_limit_file_size) as process:
        output, _ = process.communicate()
    assert 1 == process.returncode
    assert f"{out} can't be written: File too large" in output
    assert "the same command goes on" in output
    assert ["1.jpg"] == list(read(out))
    assert 0 == run(service, photos, "--out", out).exit_code
    assert 3 == len(read(out))


def test_full_disk_for_parquet(service: LocalService, photos: Path, tmp_path: Path) -> None:
    """When the Parquet file doesn't fit the journal has everything, and half a file is removed."""
    out, journal = tmp_path / "out.parquet", tmp_path / "out.parquet.partial.jsonl"
    with started(service, photos / "1.jpg", "--out", out, before=_limit_file_size) as process:
        output, _ = process.communicate()
    assert 1 == process.returncode
    assert f"{out} can't be written: " in output
    assert f"All results are in {journal}" in output
    assert ["photos", journal.name] == sorted(
        (path.name for path in tmp_path.iterdir()), reverse=True
    )
    assert 0 == run(service, photos / "1.jpg", "--out", out).exit_code
    assert 1 == service.uploads
    assert 1 == pq.read_table(out).num_rows
