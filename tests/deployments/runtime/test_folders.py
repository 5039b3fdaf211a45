"""Folders: what a request may name, and where results keep their files."""

import errno
import os
import pickle
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deployments.runtime.errors import (
    ForbiddenPathError,
    NodeUnavailableError,
    PathNotFoundError,
)
from deployments.runtime.folders import AllowedFolders, OutputStore, folder_bytes

OLD_ID, NEW_ID = "0" * 32, "1" * 32


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder with ``allowed/photo.jpg`` and ``secret/key.txt``."""
    for folder in ("allowed", "allowed/sub", "allowed2", "secret"):
        (tmp_path / folder).mkdir()
    (tmp_path / "allowed" / "photo.jpg").write_bytes(b"photo")
    (tmp_path / "allowed2" / "other.jpg").write_bytes(b"other")
    (tmp_path / "secret" / "key.txt").write_bytes(b"secret")
    return tmp_path


@contextmanager
def without_privileges() -> Iterator[None]:
    """Act as a user without rights, where the tests run as root."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)


def output(store: OutputStore, output_id: str, size_bytes: int, age_s: float) -> Path:
    """Put a published folder into a store."""
    path = store.folder / output_id
    path.mkdir(parents=True)
    (path / "file").write_bytes(bytes(size_bytes))
    moment = time.time() - age_s
    os.utime(path, (moment, moment))
    return path


@pytest.mark.parametrize(
    "path",
    ["{}/allowed/photo.jpg", "{}/allowed/sub/../photo.jpg", "{}/secret/../allowed/photo.jpg"],
)
def test_allowed(path: str, tree: Path) -> None:
    """A file below an allowed folder may be read, however its path is written."""
    allowed = AllowedFolders(readable=(tree / "allowed",))
    expected = tree / "allowed" / "photo.jpg"
    assert expected == allowed.to_read(path.format(tree))
    with allowed.open_to_read(path.format(tree)) as file:
        assert (str(expected), b"photo") == (str(file.name), file.read())


def test_links_inside(tree: Path) -> None:
    """Links may lead from one allowed folder to another, and an allowed folder may be a link."""
    (tree / "allowed" / "link.jpg").symlink_to(tree / "allowed2" / "other.jpg")
    (tree / "shortcut").symlink_to(tree / "allowed2")
    allowed = AllowedFolders(readable=(tree / "allowed", tree / "shortcut"))
    expected = tree / "allowed2" / "other.jpg"
    assert expected == allowed.to_read(f"{tree}/allowed/link.jpg")
    assert expected == allowed.to_read(f"{tree}/shortcut/other.jpg")


@pytest.mark.parametrize(
    "path",
    [
        "",
        "photo.jpg",
        "allowed/photo.jpg",
        "{}/allowed",
        "{}/allowed/",
        "{}/allowed/.",
        "{}/allowed2/other.jpg",
        "{}/secret/key.txt",
        "{}/secret/missing.txt",
        "{}/allowed/../secret/key.txt",
        "{}/allowed/sub/../../secret/key.txt",
        "{}/allowed/link.txt",
        "{}/allowed/folder/key.txt",
        "{}/allowed/photo.jpg\0.png",
        "{}/allowed/\ud800",
        "/proc/self/environ",
        "file://{}/allowed/photo.jpg",
        "~/allowed/photo.jpg",
    ],
)
def test_forbidden(path: str, tree: Path) -> None:
    """Anything else is refused in the same words, whether it exists or not."""
    (tree / "allowed" / "link.txt").symlink_to(tree / "secret" / "key.txt")
    (tree / "allowed" / "folder").symlink_to(tree / "secret")
    allowed = AllowedFolders(readable=(tree / "allowed",))
    words = r"is not an absolute path below a folder that args\.files\.readable_folders"
    for attempt in (allowed.to_read, allowed.open_to_read):
        with pytest.raises(ForbiddenPathError, match=words) as told:
            attempt(path.format(tree))
        str(told.value).encode()  # fit to be sent


def test_nothing_is_allowed_by_default(tree: Path) -> None:
    """Without a word in the YAML no file may be named."""
    with pytest.raises(ForbiddenPathError):
        AllowedFolders().to_read(f"{tree}/allowed/photo.jpg")
    with pytest.raises(ForbiddenPathError):
        AllowedFolders().to_write(f"{tree}/allowed/new.jpg")


@pytest.mark.parametrize(
    "name", ["missing.jpg", "photo.jpg/x", "sub", "dangling", "loop", "x" * 300]
)
def test_no_file(name: str, tree: Path) -> None:
    """Below an allowed folder, what is missing or no file is said to be so."""
    (tree / "allowed" / "dangling").symlink_to(tree / "allowed" / "gone")
    (tree / "allowed" / "loop").symlink_to("loop")
    with pytest.raises(PathNotFoundError, match="there is no file at"):
        AllowedFolders(readable=(tree / "allowed",)).to_read(f"{tree}/allowed/{name}")


@pytest.mark.parametrize("kind", ["pipe", "socket", "device"])
def test_special_files(kind: str, tree: Path) -> None:
    """Pipes and devices are no files; looking at them neither blocks nor starts anything."""
    path = tree / "allowed" / kind
    folders = (tree / "allowed",)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        import socket  # noqa: PLC0415 - for this case only

        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
    else:
        path, folders = Path("/dev/zero"), (Path("/dev"),)
    with pytest.raises(PathNotFoundError, match="there is no file at"):
        AllowedFolders(readable=folders).open_to_read(str(path))


@pytest.mark.parametrize("locked", ["allowed", "allowed/photo.jpg"])
def test_unreadable(locked: str, tree: Path) -> None:
    """A file that the service has no right to read is refused as such."""
    for folder in (tree, tree.parent, tree.parent.parent):
        folder.chmod(0o755)
    (tree / locked).chmod(0)
    allowed = AllowedFolders(readable=(tree / "allowed",))
    try:
        with without_privileges(), pytest.raises(ForbiddenPathError, match="has no permission"):
            allowed.to_read(f"{tree}/allowed/photo.jpg")
    finally:
        (tree / locked).chmod(0o755)


def test_link_swapped_while_opening(tree: Path) -> None:
    """A folder that is replaced by a link all the time never lets a secret out."""
    door, inside = tree / "allowed" / "door", tree / "allowed" / "inside"
    inside.mkdir()
    (inside / "key.txt").write_bytes(b"public")
    allowed = AllowedFolders(readable=(tree / "allowed",))
    done = threading.Event()

    def swap() -> None:
        while not done.is_set():
            for target in (inside, tree / "secret"):
                fresh = tree / "allowed" / "fresh"
                fresh.symlink_to(target)
                fresh.rename(door)

    thread = threading.Thread(target=swap)
    thread.start()
    outcomes: set[bytes] = set()
    for _ in range(2000):
        try:
            with allowed.open_to_read(f"{door}/key.txt") as file:
                outcomes.add(file.read())
        except ForbiddenPathError:
            outcomes.add(b"refused")
        except PathNotFoundError:
            outcomes.add(b"missing")
    done.set()
    thread.join()
    assert {b"public", b"refused"} <= outcomes <= {b"public", b"refused", b"missing"}


def test_no_descriptor_leaks(tree: Path) -> None:
    """Looking at a thousand paths leaves no file open, whatever comes of it."""
    allowed = AllowedFolders(readable=(tree / "allowed",))
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names are enough
    for _ in range(50):
        allowed.to_read(f"{tree}/allowed/photo.jpg")
        for name in ("missing", "sub"):
            with pytest.raises(PathNotFoundError):
                allowed.to_read(f"{tree}/allowed/{name}")
    assert before == len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names are enough


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("{}/allowed/new", "{}/allowed/new"),
        ("{}/allowed/a/../b/c", "{}/allowed/b/c"),
        ("{}/allowed/photo.jpg", "{}/allowed/photo.jpg"),
    ],
)
def test_to_write(path: str, expected: str, tree: Path) -> None:
    """What is to be written need not exist."""
    allowed = AllowedFolders(writable=(tree / "allowed",))
    assert Path(expected.format(tree)) == allowed.to_write(path.format(tree))


@pytest.mark.parametrize(
    "path", ["new", "{}/allowed", "{}/new", "{}/allowed/../new", "{}/allowed/out/new", "{}/a\0b"]
)
def test_forbidden_to_write(path: str, tree: Path) -> None:
    """Nothing is written outside, and reading does not imply writing."""
    (tree / "allowed" / "out").symlink_to(tree / "secret")
    allowed = AllowedFolders(readable=(tree,), writable=(tree / "allowed",))
    with pytest.raises(ForbiddenPathError, match=r"args\.files\.writable_folders"):
        allowed.to_write(path.format(tree))


def test_new_output(tmp_path: Path) -> None:
    """An output appears when it is complete, under a name that can't be guessed."""
    store = OutputStore(tmp_path / "deep" / "store")
    with store.new() as first:
        (first.path / "sub").mkdir()
        (first.path / "sub" / "a.ts").write_bytes(b"a")
        assert first.output_id is not None
        with pytest.raises(PathNotFoundError):
            store.file(first.output_id, "sub/a.ts")
        assert 0o700 == first.path.stat().st_mode & 0o777
    with store.new() as second:
        pass
    assert b"a" == store.file(first.output_id, "sub/a.ts").read_bytes()
    assert first.output_id != second.output_id
    names = {path.name for path in store.folder.iterdir()}
    assert {first.output_id, second.output_id} == names


@pytest.mark.parametrize("error", [ValueError("no"), OSError(errno.EIO, "no"), KeyboardInterrupt()])
def test_failed_output(error: BaseException, tmp_path: Path) -> None:
    """Of work that fails nothing remains, and the error is its own."""
    store = OutputStore(tmp_path)

    def work() -> None:
        with store.new() as folder:
            (folder.path / "half").write_bytes(b"half")
            raise error

    with pytest.raises(type(error)):
        work()
    assert [] == list(tmp_path.iterdir())


def test_full_disk(tmp_path: Path) -> None:
    """A full disk is a trouble of the node's that may pass, and nothing remains."""
    store = OutputStore(tmp_path)

    def work() -> None:
        with store.new() as folder, Path("/dev/full").open("wb", buffering=0) as full:
            (folder.path / "half").write_bytes(b"half")
            full.write(b"more")

    with pytest.raises(NodeUnavailableError, match=r"the disk has no room .*: No space left"):
        work()
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "output_id", ["", "..", ".", "0" * 31, "0" * 33, "g" * 32, "A" * 32, "0\n"]
)
def test_bad_ids(output_id: str, tmp_path: Path) -> None:
    """What is no id of an output is no output."""
    store = OutputStore(tmp_path / "store")
    output(store, OLD_ID, 1, 0)
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(PathNotFoundError, match="there is no output"):
        store.file(output_id, "file")
    with pytest.raises(PathNotFoundError, match="there is no output"):
        store.remove(output_id)


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "missing",
        "sub",
        "../file",
        "../../secret",
        "/etc/passwd",
        "link",
        "sub/up/x",
        "file\0",
        "x" * 300,
        "\ud800",
    ],
)
def test_bad_names(name: str, tmp_path: Path) -> None:
    """Only files of the output itself are given out, through whatever link."""
    store = OutputStore(tmp_path / "store")
    folder = output(store, OLD_ID, 1, 0)
    output(store, NEW_ID, 1, 0)
    (tmp_path / "secret").write_bytes(b"x")
    (folder / "sub").mkdir()
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "sub" / "up").symlink_to(store.folder)
    with pytest.raises(PathNotFoundError, match="there is no output") as told:
        store.file(OLD_ID, name)
    str(told.value).encode()  # fit to be sent


def test_link_inside_an_output(tmp_path: Path) -> None:
    """A link to another file of the same output is followed."""
    store = OutputStore(tmp_path)
    folder = output(store, OLD_ID, 3, 0)
    (folder / "again").symlink_to("file")
    assert 3 == store.file(OLD_ID, "again").stat().st_size


def test_remove(tmp_path: Path) -> None:
    """An output can be removed once."""
    store = OutputStore(tmp_path)
    output(store, OLD_ID, 1, 0)
    store.remove(OLD_ID)
    assert [] == list(tmp_path.iterdir())
    with pytest.raises(PathNotFoundError):
        store.remove(OLD_ID)


def test_sweep_without_a_store(tmp_path: Path) -> None:
    """A store that nothing was put into yet has nothing to remove, and is not made for it."""
    store = OutputStore(tmp_path / "store")
    store.sweep()
    assert not store.folder.exists()


def test_sweep_by_age(tmp_path: Path) -> None:
    """Outputs that are too old go, the others stay."""
    store = OutputStore(tmp_path, keep_s=100)
    output(store, OLD_ID, 1, 101)
    output(store, NEW_ID, 1, 99)
    store.sweep()
    assert [NEW_ID] == [path.name for path in tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("max_bytes", "left"), [(30, "abc"), (29, "bc"), (20, "bc"), (19, "c"), (9, ""), (0, "")]
)
def test_sweep_by_size(max_bytes: int, left: str, tmp_path: Path) -> None:
    """The oldest outputs go until the rest fits."""
    store = OutputStore(tmp_path, max_bytes=max_bytes)
    for index, letter in enumerate("abc"):
        output(store, letter * 32, 10, 50 - index)
    store.sweep()
    assert {letter * 32 for letter in left} == {path.name for path in tmp_path.iterdir()}


def test_sweep_leaves_other_things_alone(tmp_path: Path) -> None:
    """What is no output, and where links lead, is not touched."""
    store = OutputStore(tmp_path / "store", keep_s=0, max_bytes=0)
    target = tmp_path / "photos"
    target.mkdir()
    (target / "photo.jpg").write_bytes(b"photo")
    folder = output(store, OLD_ID, 1, 10)
    (folder / "link").symlink_to(target)
    (store.folder / NEW_ID).symlink_to(target)
    (store.folder / "README").write_bytes(b"read me")
    store.sweep()
    assert b"photo" == (target / "photo.jpg").read_bytes()
    assert {"README", NEW_ID} == {path.name for path in store.folder.iterdir()}


def test_new_output_sweeps(tmp_path: Path) -> None:
    """Making room needs no word from outside."""
    store = OutputStore(tmp_path, keep_s=10)
    output(store, OLD_ID, 1, 11)
    with store.new() as folder:
        pass
    assert [folder.output_id] == [path.name for path in tmp_path.iterdir()]


def test_age_counts_from_completion(tmp_path: Path) -> None:
    """Work that took longer than outputs are kept is still worth its output."""
    store = OutputStore(tmp_path, keep_s=10)
    with store.new() as folder:
        (folder.path / "file").write_bytes(b"x")
        os.utime(folder.path, (0, 0))
        store.sweep()
    store.sweep()
    assert folder.output_id is not None
    assert b"x" == store.file(folder.output_id, "file").read_bytes()


@pytest.mark.parametrize(
    ("machine", "pid", "age_s", "stays"),
    [
        (platform.node(), "1", 0, True),
        (platform.node(), "1", 10**6, True),
        (platform.node(), "999999999", 0, False),
        ("another.machine", "999999999", 0, True),
        ("another.machine", "1", 25 * 3600, False),
    ],
)
def test_unfinished(machine: str, pid: str, age_s: float, stays: bool, tmp_path: Path) -> None:  # noqa: FBT001 - a case
    """What a process that died left unfinished goes, what one still works on stays."""
    store = OutputStore(tmp_path, keep_s=1)
    path = output(store, f"{OLD_ID}.{machine}.{pid}.unfinished", 1, age_s)
    store.sweep()
    assert stays == path.exists()


def test_two_processes(tmp_path: Path) -> None:
    """A killed process's half output goes, and its finished ones are there for all."""
    program = """
import sys, time
from pathlib import Path
from deployments.runtime.folders import OutputStore
store = OutputStore(Path(sys.argv[1]))
with store.new() as done:
    (done.path / "file").write_text("done")
with store.new() as half:
    (half.path / "file").write_text("half")
    print(done.output_id, flush=True)
    time.sleep(60)
"""
    store = OutputStore(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        output_id = other.stdout.readline().strip()
        store.sweep()
        assert 2 == len(list(tmp_path.iterdir()))
        other.kill()
    store.sweep()
    assert [output_id] == [path.name for path in tmp_path.iterdir()]
    assert "done" == store.file(output_id, "file").read_text()


def test_sweeping_at_once(tmp_path: Path) -> None:
    """Several threads may sweep while others make outputs."""
    store = OutputStore(tmp_path, keep_s=0)
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(25):
                with store.new() as folder:
                    (folder.path / "file").write_bytes(b"x")
                store.sweep()
        except BaseException as error:  # noqa: BLE001 - shown below
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [] == failures


def test_store_pickles(tmp_path: Path) -> None:
    """A store reaches another process with its settings."""
    store = pickle.loads(pickle.dumps(OutputStore(tmp_path, keep_s=5, max_bytes=6)))  # noqa: S301 - our own
    assert (tmp_path, 5, 6) == (store.folder, store.keep_s, store.max_bytes)


def test_folder_bytes(tmp_path: Path) -> None:
    """All files below count with their sizes, links and folders do not."""
    assert 0 == folder_bytes(tmp_path / "missing")
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    assert 0 == folder_bytes(tmp_path)
    (inner / "x").write_bytes(bytes(7))
    (tmp_path / "y").write_bytes(bytes(5))
    (tmp_path / "a" / "link").symlink_to(tmp_path / "y")
    (tmp_path / "loop").symlink_to(tmp_path)
    assert 12 == folder_bytes(tmp_path)
