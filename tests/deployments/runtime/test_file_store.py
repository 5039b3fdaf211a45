"""The store of files, on a disk and in S3: the same answers from both."""

import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from deployments.runtime.errors import (
    ClServeError,
    ConfigError,
    ForbiddenPathError,
    InputError,
    NodeUnavailableError,
    PathNotFoundError,
    StorageFullError,
)
from deployments.runtime.file_places import local, s3
from deployments.runtime.file_store import FileStore
from tests.deployments.runtime.stores_support import s3_client, s3_endpoint, s3_store

JOB = "0f3c"
DATA = bytes(range(256)) * 40


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """The URL of an S3 server."""
    with s3_endpoint() as url:
        yield url


@pytest.fixture
def folder(tmp_path: Path) -> FileStore:
    """A store in a folder that is not there yet."""
    return FileStore(str(tmp_path / "deep" / "store"))


@pytest.fixture
def bucket(endpoint: str) -> FileStore:
    """A store in a new bucket."""
    return s3_store(endpoint)


@pytest.fixture(params=["folder", "bucket"])
def store(request: pytest.FixtureRequest) -> FileStore:
    """An empty store of either kind."""
    return request.getfixturevalue(request.param)


def content(store: FileStore, key: str) -> bytes:
    """Read a file through its descriptor, as programs do."""
    with store.open(key) as file:
        return os.pread(file.fileno(), 2**20, 0)


def raised(call: Callable[[], object]) -> type[BaseException] | None:
    """Return what a call raises."""
    try:
        call()
    except ClServeError as error:
        return type(error)
    return None


def test_empty(store: FileStore) -> None:
    """A store that nothing was put into has nothing, and removing and sweeping do no harm."""
    assert () == store.list("")
    assert () == store.list(JOB)
    assert 0 == store.size_bytes("")
    assert [] == list(store.top_folders())
    store.remove(JOB)
    store.sweep(0)
    for call in (store.info, store.open, lambda key: list(store.read(key, 0, 1))):
        with pytest.raises(PathNotFoundError, match=r"there is no file '0f3c/input/a\.jpg'"):
            call(f"{JOB}/input/a.jpg")


@pytest.mark.parametrize("data", [b"", b"x", DATA])
def test_written(store: FileStore, data: bytes) -> None:
    """What was written is there, again after it was overwritten."""
    key = f"{JOB}/input/Grüße aus Köln [1]*?#%20.jpg"
    for expected in (b"before", data):
        store.write(key, expected)
        assert expected == content(store, key)
        assert len(expected) == store.info(key).size_bytes
        assert expected == b"".join(store.read(key, 0, len(expected)))


def test_facts(store: FileStore) -> None:
    """The ETag changes with the content, and times are seconds since 1970."""
    store.write(f"{JOB}/a", b"one")
    first = store.info(f"{JOB}/a")
    assert first == store.info(f"{JOB}/a")
    store.write(f"{JOB}/a", b"two!")
    second = store.info(f"{JOB}/a")
    assert first.etag != second.etag
    assert '"' not in first.etag
    assert abs(Path(__file__).stat().st_atime - second.modified_s) < 10 * 365 * 24 * 3600


@pytest.mark.parametrize(
    ("start", "stop"),
    [(0, 0), (0, 1), (10, 300), (2500, 7000), (4096, 8192), (10239, 10240), (9000, 99999), (99, 9)],
)
def test_parts(
    store: FileStore,
    start: int,
    stop: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Any part of a file is read, in parts that are bounded."""
    monkeypatch.setattr(local, "READ_BYTES", 4096)
    monkeypatch.setattr(s3, "PART_BYTES", 4096)
    store.write("a/b", DATA)
    parts = list(store.read("a/b", start, stop))
    assert DATA[start:stop] == b"".join(parts)
    assert all(0 < len(part) <= 4096 for part in parts)


def test_listed(store: FileStore) -> None:
    """Folders list all that is below them, sorted, and know its size."""
    for key in ("b/2", "a/x/deep", "a/1", "ab/3"):
        store.write(key, key.encode())
    assert (("1", 3), ("x/deep", 8)) == store.list("a")
    assert (("1", 3), ("x/deep", 8)) == store.list("a/")
    assert (("deep", 8),) == store.list("a/x")
    assert () == store.list("a/1")
    assert ("a/1", "a/x/deep", "ab/3", "b/2") == tuple(key for key, _ in store.list(""))
    assert (11, 18) == (store.size_bytes("a"), store.size_bytes(""))
    assert {"a", "ab", "b"} == {name for name, _ in store.top_folders()}
    modified_s = store.info("b/2").modified_s
    assert abs(dict(store.top_folders())["b"] - modified_s) < 60


def test_removed(store: FileStore) -> None:
    """A file or a folder is removed with all in it, and nothing beside it, whatever its name."""
    for key in ("a/1", "a/x/2", "ab/3", "c/[d]*", "c/d"):
        store.write(key, b"x")
    store.remove("a")
    store.remove("c/[d]*")
    assert ("ab/3", "c/d") == tuple(key for key, _ in store.list(""))
    store.remove("a/1/further")
    store.remove("ab/3/")
    assert ("c/d",) == tuple(key for key, _ in store.list(""))


def test_adopted(store: FileStore, tmp_path: Path) -> None:
    """A file is moved in, in place of what was there."""
    for data in (b"old", DATA):
        (tmp_path / "file").write_bytes(data)
        store.adopt(tmp_path / "file", "a/b/c")
        assert data == content(store, "a/b/c")
        assert not (tmp_path / "file").exists()
    with pytest.raises(PathNotFoundError, match=r"or no longer at '.*file'"):
        store.adopt(tmp_path / "file", "a/b/d")


def test_adopted_in_parts(bucket: FileStore, tmp_path: Path) -> None:
    """A file of many parts goes to S3 part by part, and comes back whole."""
    data = os.urandom(3 * s3.PART_BYTES + 5)
    (tmp_path / "file").write_bytes(data)
    bucket.adopt(tmp_path / "file", "a/b")
    assert bucket.info("a/b").etag.endswith("-4"), "as S3 names an upload of four parts"
    assert data == b"".join(bucket.read("a/b", 0, len(data)))
    with bucket.open("a/b") as file:
        assert data == file.read()


def test_adopted_folder(store: FileStore, tmp_path: Path) -> None:
    """A folder is moved in with all in it, and replaces the one that was there."""
    for names in (("old", "both"), ("both", "sub/new")):
        source = tmp_path / "source"
        (source / "sub").mkdir(parents=True)
        for name in names:
            (source / name).write_bytes(name.encode())
        store.adopt_folder(source, "a/out")
        assert tuple((name, len(name)) for name in sorted(names)) == store.list("a/out")
        assert not source.exists()


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    """A folder on another filesystem than the tests' own."""
    memory = Path("/dev/shm")  # noqa: S108 - the point of the test
    if not memory.is_dir():
        pytest.skip("there is no second filesystem here")
    path = memory / f"cl-ml-serve-test-{os.getpid()}"
    path.mkdir()
    try:
        yield path
    finally:
        shutil.rmtree(path)


def test_adopted_from_another_filesystem(folder: FileStore, elsewhere: Path) -> None:
    """Where renaming can't be, files and folders are copied, and nothing is left over."""
    (elsewhere / "sub").mkdir()
    (elsewhere / "sub" / "b").write_bytes(DATA)
    (elsewhere / "a").write_bytes(DATA)
    folder.adopt(elsewhere / "a", "job/a")
    folder.adopt_folder(elsewhere / "sub", "job/sub")
    assert (("a", len(DATA)), ("sub/b", len(DATA))) == folder.list("job")
    assert [] == list(elsewhere.iterdir())
    assert [] == list(Path(folder.url, ".unfinished").iterdir())


BAD_KEYS = [
    "..",
    "../a",
    "a/..",
    "a/../../b",
    "a/../b",
    "/etc/passwd",
    "a//b",
    "./a",
    "a/./b",
    "a\0b",
    "a\\..\\b",
    "..\\b",
    "a/\ud800",
    ".unfinished/x",
]


@pytest.mark.parametrize("key", BAD_KEYS)
def test_bad_keys(store: FileStore, key: str, tmp_path: Path) -> None:
    """What leaves the store, or might somewhere, is refused by every method, in words."""
    (tmp_path / "file").write_bytes(b"x")
    calls: list[Callable[[], object]] = [
        lambda: store.adopt(tmp_path / "file", key),
        lambda: store.adopt_folder(tmp_path, key),
        lambda: store.write(key, b"x"),
        lambda: store.open(key),
        lambda: store.info(key),
        lambda: store.local_path(key),
        lambda: list(store.read(key, 0, 1)),
        lambda: store.list(key),
        lambda: store.size_bytes(key),
        lambda: store.remove(key),
    ]
    assert [ForbiddenPathError] * len(calls) == [raised(call) for call in calls]
    with pytest.raises(ForbiddenPathError) as told:
        store.info(key)
    str(told.value).encode()  # fit to be sent
    assert (tmp_path / "file").exists()


def test_the_store_itself(store: FileStore) -> None:
    """The empty key is no file, and nobody removes everything by it."""
    store.write("a/b", b"x")
    for call in (store.info, store.remove, store.open):
        with pytest.raises(ForbiddenPathError):
            call("")
    assert (("a/b", 1),) == store.list("")


def test_folder_for_a_file(store: FileStore) -> None:
    """A folder where a file is wanted is said to be one."""
    store.write("a/b/c", b"x")
    calls: list[Callable[[str], object]] = [store.info, store.open]
    calls.append(lambda key: list(store.read(key, 0, 1)))
    for key in ("a", "a/b", "a/b/"):
        for call in calls:
            with pytest.raises(InputError, match="is a folder; name a file in it"):
                call(key)


@pytest.mark.parametrize("key", ["a/b/c/d", "a/missing", f"a/{'x' * 300}"])
def test_nothing_there(folder: FileStore, key: str) -> None:
    """What can't be there is not there."""
    folder.write("a/b/c", b"x")
    for call in (folder.info, folder.open, folder.local_path):
        with pytest.raises(PathNotFoundError):
            call(key)


def test_local_path(folder: FileStore, bucket: FileStore) -> None:
    """A file on the disk has a path, one in S3 has none."""
    folder.write("a/b", b"x")
    assert Path(folder.url, "a/b") == folder.local_path("a/b")
    bucket.write("a/b", b"x")
    assert bucket.local_path("a/b") is None


def test_links(folder: FileStore, tmp_path: Path) -> None:
    """A link that leads out is refused, whoever made it; one that stays inside is followed."""
    folder.write("a/b", b"inside")
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_bytes(b"secret")
    top = Path(folder.url)
    (top / "a" / "door").symlink_to(secret)
    (top / "a" / "file").symlink_to(secret / "key")
    (top / "a" / "again").symlink_to("b")
    assert b"inside" == content(folder, "a/again")
    assert (("b", 6),) == folder.list("a")
    for call in (
        lambda: folder.open("a/file"),
        lambda: folder.info("a/door/key"),
        lambda: folder.list("a/door"),
        lambda: folder.write("a/door/new", b"x"),
        lambda: folder.remove("a/door/key"),
    ):
        with pytest.raises(ForbiddenPathError, match="leads out of the store"):
            call()
    folder.remove("a")
    assert ["key"] == [path.name for path in secret.iterdir()]


def test_pickled(store: FileStore) -> None:
    """A store in use can be sent to another process."""
    store.write("a/b", DATA)
    again = pickle.loads(pickle.dumps(store))  # noqa: S301 - our own bytes
    assert DATA == content(again, "a/b")
    assert store.url == again.url


def test_many_threads(store: FileStore) -> None:
    """Threads that use one store don't disturb each other."""

    def use(number: int) -> bytes:
        store.write(f"a/{number}", b"%d" % number)
        return content(store, f"a/{number}")

    with ThreadPoolExecutor(8) as threads:
        assert [b"%d" % number for number in range(24)] == list(threads.map(use, range(24)))


def test_private(folder: FileStore, tmp_path: Path) -> None:
    """Folders are for this user alone, from the first that had to be made."""
    folder.write("a/b/c", b"x")
    made = [tmp_path / "deep", *(path for path in (tmp_path / "deep").rglob("*") if path.is_dir())]
    assert {0o700} == {path.stat().st_mode & 0o777 for path in made}


def test_leftovers(folder: FileStore) -> None:
    """What a killed writer left is never seen, and swept when it is old."""
    code = (
        "import os, sys\n"
        "from deployments.runtime.file_places import local\n"
        "from deployments.runtime.file_store import FileStore\n"
        "local.LocalPlace._put = lambda *_: os.kill(os.getpid(), 9)\n"
        "FileStore(sys.argv[1]).write('a/b', b'half')\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, folder.url], check=False)
    assert -9 == killed.returncode
    left = Path(folder.url, ".unfinished")
    assert 1 == len(list(left.iterdir()))
    assert ((), []) == (folder.list(""), list(folder.top_folders()))
    folder.sweep(3600)
    assert 1 == len(list(left.iterdir()))
    folder.sweep(-1)
    assert [] == list(left.iterdir())


def test_cut_off_uploads(bucket: FileStore, endpoint: str) -> None:
    """An upload that was begun long ago is ended, one of another prefix is not touched."""
    client = s3_client(endpoint)
    name = bucket.url.split("/")[2]
    for key in ("jobs/a/b", "others/a/b"):
        client.create_multipart_upload(Bucket=name, Key=key)
    bucket.sweep(100 * 365 * 24 * 3600)
    uploads = client.list_multipart_uploads(Bucket=name)["Uploads"]
    assert ["jobs/a/b", "others/a/b"] == sorted(upload["Key"] for upload in uploads)
    bucket.sweep(3600)  # moto's uploads are all of the year 2010
    uploads = client.list_multipart_uploads(Bucket=name)["Uploads"]
    assert ["others/a/b"] == [upload["Key"] for upload in uploads]


def test_many_objects(bucket: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """More objects than one answer of S3 holds are all listed, and all removed."""
    monkeypatch.setattr(s3, "MAX_REMOVED", 2)
    call_s3 = bucket._place._s3.call_s3  # pyright: ignore[reportAttributeAccessIssue] - of S3
    monkeypatch.setattr(
        bucket._place._s3,  # pyright: ignore[reportAttributeAccessIssue] - of S3
        "call_s3",
        lambda method, **args: call_s3(
            method, **args, **({"MaxKeys": 2} if method == "list_objects_v2" else {})
        ),
    )
    for number in range(5):
        bucket.write(f"a/{number}", b"x")
    assert tuple((str(number), 1) for number in range(5)) == bucket.list("a")
    assert [("a", True)] == [(name, at > 0) for name, at in bucket.top_folders()]
    bucket.remove("a")
    assert () == bucket.list("")


def test_placeholders(bucket: FileStore, endpoint: str) -> None:
    """The empty objects that some programs put for folders are not files."""
    client = s3_client(endpoint)
    client.put_object(Bucket=bucket.url.split("/")[2], Key="jobs/a/", Body=b"")
    bucket.write("a/b", b"x")
    bucket.write("loose", b"x")
    assert (("b", 1),) == bucket.list("a")
    assert ["a"] == [name for name, _ in bucket.top_folders()]


def test_full_disk(folder: FileStore, elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk is told with what to do, and nothing of the file remains."""
    (elsewhere / "file").write_bytes(DATA)
    unfinished = Path(folder.url, ".unfinished")
    unfinished.mkdir(parents=True)
    name = uuid.uuid4()
    monkeypatch.setattr("uuid.uuid4", lambda: name)
    for call in (
        lambda: folder.write("a/b", DATA),
        lambda: folder.adopt(elsewhere / "file", "a/b"),
    ):
        (unfinished / name.hex).symlink_to("/dev/full")
        with pytest.raises(StorageFullError, match=r"no room for 'a/b' in .*: No space"):
            call()
        assert [] == list(unfinished.iterdir())
    assert () == folder.list("")
    assert (elsewhere / "file").exists()


class _Full(BaseHTTPRequestHandler):
    """An S3 without room: MinIO's answer to a PUT below ``minio``, Ceph's to others."""

    protocol_version = "HTTP/1.1"  # which knows the `Expect` that clients send before a body

    def do_PUT(self) -> None:
        """Refuse."""
        self.rfile.read(int(self.headers["content-length"]))
        minio = self.path.startswith("/minio/")
        code, status = ("XMinioStorageFull", 507) if minio else ("QuotaExceeded", 403)
        body = f"<Error><Code>{code}</Code><Message>full</Message></Error>".encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's
        """Say nothing."""


@pytest.mark.parametrize("name", ["minio", "ceph"])
@pytest.mark.usefixtures("endpoint")
def test_full_bucket(name: str) -> None:
    """A store in S3 that is full says so in one of two ways."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Full) as server:
        threading.Thread(target=server.serve_forever).start()
        url = f"http://127.0.0.1:{server.server_port}"
        store = FileStore(f"s3://{name}", {"endpoint": url, "region": "us-east-1"})
        try:
            with pytest.raises(
                StorageFullError, match=f"there is no room for 'a/b' in s3://{name}"
            ):
                store.write("a/b", b"x")
        finally:
            server.shutdown()


def test_no_room_for_a_copy(bucket: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where what is fetched has no room on this machine's disk, that is said."""
    bucket.write("a/b", DATA)
    full = Path("/dev/full")
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: full.open("r+b", buffering=0))
    with pytest.raises(StorageFullError, match="there is no room for 'a/b'"):
        bucket.open("a/b")


def test_no_bucket(endpoint: str) -> None:
    """A bucket that is not there is the store's trouble, not a file's."""
    store = FileStore("s3://missing/jobs", {"endpoint": endpoint})
    for call in (lambda: store.write("a/b", b"x"), lambda: store.list("a")):
        with pytest.raises(NodeUnavailableError, match="s3://missing/jobs can't be used"):
            call()


def test_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that does not answer is named, and may answer later."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "top-secret")
    monkeypatch.setattr("s3fs.S3FileSystem.retries", 1)
    store = FileStore("s3://bucket", {"endpoint": "http://127.0.0.1:9", "region": "us-east-1"})
    with pytest.raises(
        NodeUnavailableError, match=r"s3://bucket can't be used: .*127\.0\.0\.1:9"
    ) as told:
        store.write("a/b", b"x")
    assert "top-secret" not in str(told.value)


@pytest.mark.parametrize(
    ("url", "options", "words"),
    [
        ("jobs", {}, "expected an absolute folder or s3://bucket/prefix, got 'jobs'"),
        ("", {}, "expected an absolute folder"),
        ("http://x/y", {}, "expected an absolute folder"),
        ("s3://", {}, "or s3://bucket/prefix, got 's3:'"),
        ("s3:///x", {}, "or s3://bucket/prefix"),
        ("s3://b//x", {}, "or s3://bucket/prefix"),
        ("s3://b", {"secret": "x"}, "options: expected endpoint or region, got 'secret'"),
    ],
)
def test_wrong(url: str, options: dict[str, str], words: str) -> None:
    """A wrong description is refused before anything is opened."""
    with pytest.raises(ConfigError, match=words):
        FileStore(url, options)


def test_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without s3fs, what to install is said; a folder needs nothing of it."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"pip install 'cl-ml-serve\[s3\]'"):
        FileStore("s3://bucket")
    FileStore("/srv/jobs")


def test_folders_import_no_client() -> None:
    """A process whose files are in a folder does not load the client of S3."""
    code = (
        "import sys\n"
        "from deployments.runtime.file_store import FileStore\n"
        "FileStore(sys.argv[1]).list('')\n"
        "print([name for name in ('s3fs', 'fsspec', 'botocore') if name in sys.modules])\n"
    )
    command = [sys.executable, "-c", code, "/nonexistent"]
    assert b"[]\n" == subprocess.run(command, check=True, capture_output=True).stdout
