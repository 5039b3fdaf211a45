"""Pulling: https sources that fail in every way, fallbacks, locks, offline, full disks."""

import errno
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import pytest

import deployments
from deployments.runtime.errors import (
    ModelDownloadError,
    ModelError,
    OfflineError,
    UnknownModelError,
)
from deployments.runtime.models import ModelStore, PullProgress

MakeEntry = Callable[..., dict[str, Any]]
MakeStore = Callable[..., ModelStore]

CONTENT = bytes(range(256)) * 20_000  # 5 MB, several chunks


class Server(Protocol):
    """What these tests use of conftest's ``FileServer``."""

    files: dict[str, bytes]
    faults: dict[str, list[int]]
    requests: list[tuple[str, str | None]]
    etags: dict[str, str]

    def url(self, path: str) -> str:
        """Return the URL of one of ``files``."""
        ...


def zipped(members: dict[str, bytes]) -> bytes:
    """Return a zip archive of the members."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.fixture
def store(server: Server, make_entry: MakeEntry, make_store: MakeStore) -> ModelStore:
    """A store with one model whose one source is the server's file ``a.onnx``."""
    server.files["a.onnx"] = CONTENT
    return make_store({"a": make_entry(CONTENT, {"https": {"url": server.url("a.onnx")}})})


def left_files(store: ModelStore) -> list[str]:
    """Return what a pull left besides the model and its locks."""
    folders = ("downloads", "runs", "quarantine")
    return [p.name for f in folders for p in (store.cache / f).glob("**/*") if p.is_file()]


def test_pull(store: ModelStore) -> None:
    """A model is downloaded, reported byte by byte, and nothing else is left."""
    events: list[PullProgress] = []
    path = store.pull("a", progress=events.append)
    assert CONTENT == path.read_bytes()
    assert path == store.path("a")
    assert [] == left_files(store)
    downloads = [event for event in events if event.stage == "download"]
    assert (len(CONTENT), len(CONTENT)) == (downloads[-1].done_bytes, downloads[-1].total_bytes)
    assert sorted(e.done_bytes for e in downloads) == [e.done_bytes for e in downloads]
    assert "done" == events[-1].stage


def test_pull_twice_asks_once(store: ModelStore, server: Server) -> None:
    """An installed model is not fetched again."""
    store.pull("a")
    store.pull("a")
    assert 1 == len(server.requests)


def test_cut_connection_resumes(store: ModelStore, server: Server) -> None:
    """After a cut the rest is asked for, not the whole file."""
    server.faults["a.onnx"] = [-2_000_000, -1_000_000]
    assert CONTENT == store.pull("a").read_bytes()
    ranges = [asked for _, asked in server.requests]
    assert [None, "bytes=2000000-", "bytes=3000000-"] == ranges


def test_later_process_resumes(store: ModelStore, server: Server) -> None:
    """A download that failed for good goes on where it stopped at the next pull."""
    server.faults["a.onnx"] = [-1_000_000, 503, 503, 503]
    with pytest.raises(ModelDownloadError, match="HTTP 503"):
        store.pull("a")
    store.pull("a")
    assert ("a.onnx", "bytes=1000000-") == server.requests[-1]
    assert [] == left_files(store)


def test_changed_file_is_not_joined(store: ModelStore, server: Server) -> None:
    """Where the server's file changed since the cut, it is fetched from the start."""
    server.etags["a.onnx"] = '"old"'
    server.faults["a.onnx"] = [-1_000_000, 503, 503, 503]
    with pytest.raises(ModelDownloadError):
        store.pull("a")
    server.etags["a.onnx"] = '"new"'
    assert CONTENT == store.pull("a").read_bytes()


def test_weak_etag_is_not_joined(store: ModelStore, server: Server) -> None:
    """A weak validator does not promise the same bytes, so nothing is resumed on it."""
    server.etags["a.onnx"] = 'W/"1"'
    server.faults["a.onnx"] = [-1_000_000]
    assert CONTENT == store.pull("a").read_bytes()
    assert [None, None] == [asked for _, asked in server.requests]


def test_complete_part_starts_over(store: ModelStore, server: Server) -> None:
    """A part that a killed process had completed can't be resumed and is fetched again."""
    server.faults["a.onnx"] = [-1_000_000, 503, 503, 503]
    with pytest.raises(ModelDownloadError):
        store.pull("a")
    [part] = (store.cache / "downloads").glob("*.part")
    part.write_bytes(CONTENT)
    assert CONTENT == store.pull("a").read_bytes()


@pytest.mark.parametrize("status", [429, 500, 503])
def test_temporary_failure_is_retried(store: ModelStore, server: Server, status: int) -> None:
    """A server that recovers is asked again."""
    server.faults["a.onnx"] = [status, status]
    assert CONTENT == store.pull("a").read_bytes()


def test_refusal_is_not_retried(store: ModelStore, server: Server) -> None:
    """A server that will not change its mind is asked once."""
    server.faults["a.onnx"] = [403]
    with pytest.raises(ModelDownloadError, match="HTTP 403"):
        store.pull("a")
    assert 1 == len(server.requests)


def test_sources_in_order(server: Server, make_entry: MakeEntry, make_store: MakeStore) -> None:
    """Each source that fails gives way to the next; the hash decides."""
    server.files["wrong"] = b"x" * len(CONTENT)
    server.files["short"] = b"x"
    server.files["right"] = CONTENT
    urls = [server.url(path) for path in ("absent", "wrong", "short", "right")]
    store = make_store({"a": make_entry(CONTENT, *({"https": {"url": url}} for url in urls))})
    assert CONTENT == store.pull("a").read_bytes()
    assert ["absent", "wrong", "short", "right"] == [path for path, _ in server.requests]


def test_all_sources_fail(server: Server, make_entry: MakeEntry, make_store: MakeStore) -> None:
    """When every source fails, each stands in the message with its reason."""
    server.files["wrong"] = b"x" * len(CONTENT)
    server.files["short"] = b"x"
    sources = [{"https": {"url": server.url(path)}} for path in ("absent", "wrong", "short")]
    store = make_store({"a": make_entry(CONTENT, *sources, {"file": {"path": "nowhere"}})})
    with pytest.raises(ModelDownloadError) as caught:
        store.pull("a")
    wrong = hashlib.sha256(server.files["wrong"]).hexdigest()
    right = hashlib.sha256(CONTENT).hexdigest()
    expected = (
        "a: no source gave the file\n"
        f"  - {server.url('absent')}: HTTP 404\n"
        f"  - {server.url('wrong')}: its sha256 is {wrong}, expected {right}\n"
        f"  - {server.url('short')}: offers 1 bytes, expected {len(CONTENT)}\n"
        "  - file nowhere: no such file"
    )
    assert expected == str(caught.value)
    assert [] == left_files(store)


def test_shared_archive_is_fetched_once(
    server: Server,
    make_entry: MakeEntry,
    make_store: MakeStore,
) -> None:
    """Entries of one archive share its download within a run, and its failure too."""
    server.files["all.zip"] = zipped({"x/1": b"one", "x/2": b"two"})

    def entry(content: bytes, path: str, member: str) -> dict[str, Any]:
        return make_entry(content, {"https": {"url": server.url(path), "member": member}})

    store = make_store(
        {
            "one": entry(b"one", "all.zip", "x/1"),
            "two": entry(b"two", "all.zip", "x/2"),
            "three": entry(b"3", "gone.zip", "x/3"),
            "four": entry(b"4", "gone.zip", "x/4"),
        }
    )
    results = store.pull_many(["one", "two", "three", "four"])
    assert b"two" == store.path("two").read_bytes()
    assert ["one", "two"] == [n for n, r in results.items() if isinstance(r, Path)]
    assert ["all.zip", "gone.zip"] == [path for path, _ in server.requests]


@pytest.mark.parametrize(
    ("archive", "told"),
    [
        (zipped({"y": b"1"}), "has no member x"),
        (zipped({"x": b"12"}), "larger than the expected 1 bytes"),
        (b"noise", "is damaged"),
    ],
)
def test_wrong_archive(
    server: Server,
    make_entry: MakeEntry,
    make_store: MakeStore,
    archive: bytes,
    told: str,
) -> None:
    """An archive that is not what was expected is a reason like any other."""
    server.files["a.zip"] = archive
    source = {"https": {"url": server.url("a.zip"), "member": "x"}}
    with pytest.raises(ModelDownloadError, match=told):
        make_store({"a": make_entry(b"1", source)}).pull("a")


def test_member_must_be_a_file(
    tmp_path: Path,
    server: Server,
    make_entry: MakeEntry,
    make_store: MakeStore,
) -> None:
    """A link in a tar archive is not followed."""
    with tarfile.open(tmp_path / "a.tgz", "w:gz") as tar:
        info = tarfile.TarInfo("x")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(info)
    server.files["a.tgz"] = (tmp_path / "a.tgz").read_bytes()
    source = {"https": {"url": server.url("a.tgz"), "member": "x"}}
    with pytest.raises(ModelDownloadError, match="not a regular file"):
        make_store({"a": make_entry(b"1", source)}).pull("a")


def test_archive_hash(server: Server, make_entry: MakeEntry, make_store: MakeStore) -> None:
    """An archive with another hash than the recorded one is not opened."""
    server.files["a.zip"] = zipped({"x": b"1"})
    source = {"url": server.url("a.zip"), "member": "x", "archive_sha256": "0" * 64}
    with pytest.raises(ModelDownloadError, match="the archive's sha256 is"):
        make_store({"a": make_entry(b"1", {"https": source})}).pull("a")


@pytest.mark.usefixtures("no_network")
def test_offline_touches_nothing(make_entry: MakeEntry, make_store: MakeStore) -> None:
    """Offline, neither a socket is opened nor a package client run."""
    package = {"package": "p", "version": "1", "member": "m"}
    sources = (
        {"https": {"url": "https://example.org/a"}},
        {"npm": package},
        {"pypi": {**package, "kind": "wheel"}},
    )
    store = make_store({"a": make_entry(b"1", *sources)}, offline=True)
    with pytest.raises(OfflineError, match=r"npm p@1, PyPI wheel p==1"):
        store.pull("a")


@pytest.mark.usefixtures("no_network")
def test_offline_uses_local_files(
    tmp_path: Path, make_entry: MakeEntry, make_store: MakeStore
) -> None:
    """Offline, a source on this machine still serves."""
    (tmp_path / "a").write_bytes(b"1")
    sources = ({"https": {"url": "https://example.org/a"}}, {"file": {"path": "a"}})
    store = make_store({"a": make_entry(b"1", *sources)}, offline=True)
    assert b"1" == store.pull("a").read_bytes()


def test_unknown_name_pulls_nothing(store: ModelStore, server: Server) -> None:
    """A misspelt name stops a run before it begins."""
    with pytest.raises(UnknownModelError):
        store.pull_many(["a", "b"])
    assert [] == server.requests


def test_missing_npm(
    make_entry: MakeEntry, make_store: MakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine without npm is told so, as that source's reason."""
    monkeypatch.setattr("shutil.which", lambda _: None)
    source = {"npm": {"package": "p", "version": "1", "member": "m"}}
    with pytest.raises(ModelDownloadError, match="npm p@1: npm is not installed"):
        make_store({"a": make_entry(b"1", source)}).pull("a")


@pytest.mark.parametrize(
    ("output", "told"),
    [
        ("ERROR: No matching distribution found for p==1", "No matching distribution"),
        ("/usr/bin/python: No module named pip", "pip is not installed"),
        ("OSError: [Errno 28] No space left on device", "disk full"),
        ("", "exit code 1"),
    ],
)
def test_failing_client(
    make_entry: MakeEntry,
    make_store: MakeStore,
    monkeypatch: pytest.MonkeyPatch,
    output: str,
    told: str,
) -> None:
    """A package client's failure is passed on in its own words."""

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1, "", output)

    monkeypatch.setattr("subprocess.run", run)
    source = {"pypi": {"package": "p", "version": "1", "member": "m", "kind": "sdist"}}
    with pytest.raises(ModelDownloadError, match=told):
        make_store({"a": make_entry(b"1", source)}).pull("a")


def test_no_room(store: ModelStore, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk without room is noticed before anything is downloaded."""
    usage = type(shutil.disk_usage("/"))(100, 99, 1)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    with pytest.raises(ModelDownloadError, match=r"disk full: .*0 MB free, 39 MB are needed"):
        store.pull("a")
    assert [] == server.requests


def test_disk_fills_up(store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fills up on the way is told as such, and nothing takes the model's place."""

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(ModelDownloadError, match="disk full"):
        store.pull("a")
    monkeypatch.undo()
    assert CONTENT == store.pull("a").read_bytes()


def test_unwritable_cache(make_entry: MakeEntry, make_store: MakeStore, tmp_path: Path) -> None:
    """A cache that can't be made is an error that names it."""
    (tmp_path / "cache").write_text("a file where the folder should be")
    store = make_store({"a": make_entry(b"1", {"file": {"path": "a"}})})
    with pytest.raises(ModelDownloadError, match="cache"):
        store.pull("a")


PULL = """
import sys
from pathlib import Path
from deployments.runtime.models import ModelStore, load_catalogue
store = ModelStore(load_catalogue(Path(sys.argv[1])), Path(sys.argv[2]))
store.pull("a", progress=lambda event: print(event.stage, flush=True))
"""


def test_processes_download_once(store: ModelStore, server: Server) -> None:
    """Of processes that pull the same model at once, one downloads and all find it."""
    command = [sys.executable, "-c", PULL, str(store.catalogue.path), str(store.cache)]
    root = Path(deployments.__file__).parents[1]
    running = [
        subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    outputs = [process.communicate(timeout=120) for process in running]
    assert [0, 0, 0] == [process.returncode for process in running], outputs
    assert 1 == len(server.requests)
    assert CONTENT == store.path("a").read_bytes()


def test_stale_runs_are_cleared(store: ModelStore) -> None:
    """The scratch folder of a run that was killed long ago is removed by the next one."""
    old, young = store.cache / "runs" / "old", store.cache / "runs" / "young"
    old.mkdir(parents=True)
    young.mkdir()
    os.utime(old, (0, 0))
    store.pull("a")
    assert [young] == list((store.cache / "runs").iterdir())


def test_errors_are_model_errors(store: ModelStore, server: Server) -> None:
    """A run returns the errors of its models and does not raise them."""
    server.faults["a.onnx"] = [404]
    [error] = store.pull_many(["a"]).values()
    assert isinstance(error, ModelError)


def test_threads_may_pull_at_once(store: ModelStore) -> None:
    """Runs that begin and end beside each other do not trip over each other's folders."""
    installed = store.pull("a")
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: store.pull("a"), range(200))) == {installed}
