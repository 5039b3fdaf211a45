"""The files of jobs: parts that arrive, and what is removed."""

import os
import platform
import time
from pathlib import Path

import pytest

from deployments.runtime.errors import InvalidParameterError, PathNotFoundError
from deployments.runtime.file_store import FileStore
from serve_app.jobs.folders import JobFolders, key_of
from serve_app.jobs.job import Job, JobRequest, JobStatus

JOB_ID = "00000000-0000-0000-0000-000000000001"


@pytest.fixture
def folders(tmp_path: Path) -> JobFolders:
    """Empty folders."""
    return JobFolders(FileStore(str(tmp_path / "files")), tmp_path)


def job(status: JobStatus = "completed") -> Job:
    """A job with a file and an attempt."""
    request = JobRequest(JOB_ID, "hash", ("hash",), input_name="a.txt")
    return Job(request, status, 0, 1, "a1-x", None, None, None, False, 1, 1, None, None)  # noqa: FBT003 - not dead


def test_parts_become_the_input(folders: JobFolders, tmp_path: Path) -> None:
    """In their order; a part that is sent again changes nothing."""
    for offset, data in ((0, b"one "), (4, b"two "), (4, b"two "), (8, b"three")):
        folders.receive(JOB_ID, "a.txt", offset, data)
    assert folders.has_arrived(job().request)
    folders.take_in(job().request)
    assert not folders.has_arrived(job().request)
    assert b"one two three" == (tmp_path / "files" / JOB_ID / "input" / "a.txt").read_bytes()
    assert (("input/a.txt", 13),) == folders.list(job("queued"))
    assert b"one two three" == b"".join(folders.read(job(), "input/a.txt"))


def test_a_shorter_input_replaces_a_longer_one(folders: JobFolders) -> None:
    """Whoever begins anew leaves nothing of the first try."""
    folders.receive(JOB_ID, "a.txt", 0, b"a long one")
    folders.receive(JOB_ID, "a.txt", 0, b"new")
    folders.take_in(job().request)
    assert b"new" == b"".join(folders.read(job(), "input/a.txt"))


@pytest.mark.parametrize(
    ("job_id", "name", "offset", "message"),
    [
        ("x", "a.txt", 0, "expected a UUID"),
        ("../../../../etc/cron.d/x", "a.txt", 0, "expected a UUID"),
        (JOB_ID, "../a.txt", 0, "expected one such as 'a.txt'"),
        (JOB_ID, ".hidden", 0, "expected one such as 'hidden'"),
        (JOB_ID, "a.txt", 5, "send the whole input again"),
    ],
)
def test_what_is_not_taken(
    folders: JobFolders,
    job_id: str,
    name: str,
    offset: int,
    message: str,
) -> None:
    """Names that lead elsewhere, and a part without those before it."""
    with pytest.raises(InvalidParameterError, match=message):
        folders.receive(job_id, name, offset, b"data")


def test_a_gap_between_parts_is_refused(folders: JobFolders) -> None:
    """What is missing can't be made up."""
    folders.receive(JOB_ID, "a.txt", 0, b"one")
    with pytest.raises(InvalidParameterError, match="the part at 9 came, and 3 bytes are here"):
        folders.receive(JOB_ID, "a.txt", 9, b"two")


def test_only_the_attempt_that_counts_is_seen(folders: JobFolders, tmp_path: Path) -> None:
    """And only once it is complete; what other attempts left is removed."""
    store = FileStore(str(tmp_path / "files"))
    for key in ("input/a.txt", "a1-x/output/hash.json", "a1-old/output/hash.json"):
        store.write(f"{JOB_ID}/{key}", key.encode())
    with pytest.raises(PathNotFoundError, match="is in_progress"):
        key_of(job("in_progress"), "output/hash.json")
    assert b"a1-x/output/hash.json" == b"".join(folders.read(job(), "output/hash.json"))
    folders.tidy(JOB_ID, job())
    kept = (("a1-x/output/hash.json", 21), ("input/a.txt", 11))
    assert kept == store.list(JOB_ID)
    folders.tidy(JOB_ID, job("failed"))
    assert (("input/a.txt", 11),) == store.list(JOB_ID)
    folders.tidy(JOB_ID, None)
    assert () == store.list(JOB_ID)


def test_what_was_given_up_is_swept(folders: JobFolders, tmp_path: Path) -> None:
    """Parts of a client that died, once they are old."""
    folders.receive(JOB_ID, "old.txt", 0, b"one")
    folders.receive(JOB_ID, "new.txt", 0, b"one")
    old = tmp_path / "incoming" / f"{JOB_ID}.old.txt"
    os.utime(old, (time.time() - 100, time.time() - 100))
    folders.sweep(50)
    assert [f"{JOB_ID}.new.txt"] == [path.name for path in (tmp_path / "incoming").iterdir()]


def test_what_a_dead_ingress_was_receiving_is_removed(folders: JobFolders, tmp_path: Path) -> None:
    """At once."""
    incoming = tmp_path / "incoming"
    (incoming / f"{platform.node()}.{os.getpid()}-1.{'0' * 32}").mkdir(parents=True)
    folders.remove_abandoned()
    assert [] == list(incoming.iterdir())
