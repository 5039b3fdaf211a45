"""ExifTool that dies, hangs, is missing or chokes; and that nothing of it is left behind."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from deployments.exif import Exif
from deployments.exif import program as program_module
from deployments.exif.program import FILES_PER_CALL, ExifToolProgram
from deployments.runtime.capability import NodeSettings
from deployments.runtime.errors import (
    ClServeError,
    TooLargeError,
    ToolFailedError,
    ToolNotInstalledError,
)
from deployments.runtime.models import ModelStore
from tests.deployments.exif.media_files import photo, png_with_text

LIMIT_S = 3.0  # of the tests that let it hang; above what a start takes on a busy machine


def pids() -> list[int]:
    """ExifTool's processes that this one has started, zombies included."""
    found = []
    for child in psutil.Process().children(recursive=True):
        try:
            if "exiftool" in child.name() or child.status() == psutil.STATUS_ZOMBIE:
                found.append(child.pid)
        except psutil.NoSuchProcess:
            continue
    return found


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for what must come; the test's own time limit ends it."""
    while not condition():
        time.sleep(0.01)


@pytest.fixture
def program() -> Iterator[ExifToolProgram]:
    """ExifTool, started and stopped, after which none is left."""
    program = ExifToolProgram()
    program.start()
    yield program
    program.stop()
    assert [] == pids()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A photo."""
    path = tmp_path / "photo"
    path.write_bytes(photo().data)
    return path


@pytest.fixture
def fake_exiftool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts a shell script in the place of ExifTool."""
    folder = tmp_path / "bin"
    folder.mkdir()

    def install(script: str) -> None:
        (folder / "exiftool").write_text(f"#!/bin/sh\n{script}\n")
        (folder / "exiftool").chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    return install


def makes(found: Sequence[object]) -> list[object]:
    """The camera of each file, or its error."""
    return [one.get("EXIF:Make") if isinstance(one, dict) else type(one) for one in found]


def test_no_files(program: ExifToolProgram) -> None:
    """No files give nothing."""
    assert [] == program.read([])


def test_missing_files(program: ExifToolProgram, path: Path, tmp_path: Path) -> None:
    """A file that is not there, or has nothing in it, does not shift the others."""
    gone, empty = tmp_path / "gone", tmp_path / "empty"
    empty.touch()
    assert [ToolFailedError] == makes(program.read([gone]))
    expected = [ToolFailedError, "Acme", ToolFailedError, "Acme"]
    assert expected == makes(program.read([gone, path, empty, path]))


def test_many_files(program: ExifToolProgram, path: Path) -> None:
    """More files than one call takes are read in several, by one process."""
    before = pids()
    links = [path.with_name(f"link-{index}") for index in range(FILES_PER_CALL + 1)]
    for link in links:
        link.symlink_to(path)
    assert ["Acme"] * len(links) == makes(program.read(links))
    assert before == pids()


def test_killed_between_calls(program: ExifToolProgram, path: Path) -> None:
    """A program that died is replaced by the next call, and its remains are cleared away."""
    (pid,) = pids()
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    assert ["Acme"] == makes(program.read([path]))
    assert 1 == len(pids())
    assert [pid] != pids()


def test_hangs(path: Path) -> None:
    """A program that gives no answer in time is killed by its id, and the call asked again."""
    program = ExifToolProgram(time_limit_s=LIMIT_S)
    program.start()
    (pid,) = pids()
    os.kill(pid, signal.SIGSTOP)
    try:
        assert ["Acme", "Acme"] == makes(program.read([path, path]))
        assert not psutil.pid_exists(pid)
        assert 1 == len(pids())
    finally:
        program.stop()
    assert [] == pids()


def test_killed_under_load(program: ExifToolProgram, path: Path) -> None:
    """With ExifTool killed again and again, each call is answered rightly or fails cleanly."""
    expected = program.read([path])[0]
    killed = 0
    done = threading.Event()

    def kill() -> None:
        nonlocal killed
        while not done.wait(0.2):
            for pid in pids():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    killed += 1

    def call(_: int) -> list[object]:
        try:
            return list(program.read([path] * 3))
        except ToolFailedError as error:
            return [error]

    killer = threading.Thread(target=kill)
    killer.start()
    with ThreadPoolExecutor(4) as pool:
        answers = [one for answer in pool.map(call, range(100)) for one in answer]
        # However fast the calls were, some more are made until it was killed three times.
        while killed < 3:
            answers += call(0)
    done.set()
    killer.join()
    assert {True} == {one == expected or isinstance(one, ToolFailedError) for one in answers}
    assert expected in answers
    assert [expected] == program.read([path])
    assert 1 == len(pids())


def test_concurrent_calls(program: ExifToolProgram, tmp_path: Path) -> None:
    """Threads that call at once get each its own answer, of one process."""
    paths = []
    for number in range(4):
        paths.append(tmp_path / str(number))
        paths[-1].write_bytes(photo(fields=None, number=number).data + b"x" * number)
    before = pids()
    singles = [program.read([path]) for path in paths]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda index: program.read([paths[index % 4]]), range(64)))
    assert singles * 16 == answers
    assert before == pids()


def test_file_that_kills_it(program: ExifToolProgram, path: Path, tmp_path: Path) -> None:
    """A text that unpacks to more memory than allowed fails that file, not those beside it."""
    bomb = tmp_path / "bomb"
    bomb.write_bytes(png_with_text(400 * 2**20).data)
    found = program.read([path, bomb, path])
    assert ["Acme", ToolFailedError, "Acme"] == makes(found)
    assert "Out of memory" in str(found[1])


def test_too_much_metadata(
    program: ExifToolProgram,
    path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Metadata past the limit fail that file, as too large."""
    monkeypatch.setattr(program_module, "MAX_OUTPUT_BYTES", 2**20)
    long = tmp_path / "long"
    long.write_bytes(png_with_text(2 * 2**20).data)
    found = program.read([long, path])
    assert [TooLargeError, "Acme"] == makes(found)
    assert "the metadata has more than 1 MiB" == str(found[0])


def test_hangs_twice(path: Path, fake_exiftool: Callable[[str], None]) -> None:
    """A program that hangs on a file again when started anew fails that file."""
    # It tells its version, as at the start, and then says nothing more.
    fake_exiftool(
        "while read line; do case $line in\n"
        "-ver) echo 12.57;;\n"
        "-j) exec sleep 60;;\n"
        '-execute*) echo "{ready${line#-execute}}";;\n'
        "esac; done"
    )
    program = ExifToolProgram(time_limit_s=1.0)
    program.start()
    (error,) = program.read([path])
    program.stop()
    assert isinstance(error, ToolFailedError)
    assert "ExifTool gave no answer in 1 s" == str(error)


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("sleep 0.2; echo no Perl here >&2; exit 1", "ExifTool died: no Perl here"),
        ("sleep 0.2; exit 1", "ExifTool died: it said nothing"),
    ],
)
def test_does_not_start(
    fake_exiftool: Callable[[str], None],
    script: str,
    message: str,
) -> None:
    """A program that ends instead of answering is an error that has its words."""
    fake_exiftool(script)
    program = ExifToolProgram()
    with pytest.raises(ToolFailedError, match=message):
        program.start()
    assert [] == pids()


def test_is_no_program(fake_exiftool: Callable[[str], None], tmp_path: Path) -> None:
    """A file that can't be run is an error."""
    fake_exiftool("")
    (tmp_path / "bin" / "exiftool").write_text("#!/no/such/shell\n")
    with pytest.raises(ToolFailedError, match="ExifTool does not start"):
        ExifToolProgram().start()


def test_answers_nonsense(path: Path, fake_exiftool: Callable[[str], None]) -> None:
    """Another program of that name, which answers what is not JSON, is an error."""
    fake_exiftool(
        "while read line; do case $line in\n"
        '-execute*) echo "words\n{ready${line#-execute}}";;\n'
        "esac; done"
    )
    program = ExifToolProgram()
    program.start()
    (error,) = program.read([path])
    program.stop()
    assert isinstance(error, ToolFailedError)
    assert "not its JSON" in str(error)


def test_listens_no_more(path: Path, fake_exiftool: Callable[[str], None]) -> None:
    """A program that lives and takes no more commands is replaced, and fails the call."""
    fake_exiftool(
        "while read line; do case $line in\n"
        '-execute*) echo "{ready${line#-execute}}"; exec 0<&-; exec sleep 60;;\n'
        "esac; done"
    )
    others = psutil.Process().children()
    program = ExifToolProgram(time_limit_s=1.0)
    program.start()
    (child,) = (process for process in psutil.Process().children() if process not in others)
    wait_until(lambda: not Path(f"/proc/{child.pid}/fd/0").exists())
    assert [ToolFailedError] == makes(program.read([path]))
    assert not child.is_running()
    program.stop()


def test_not_installed(
    store: ModelStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where ExifTool is missing, the error names the command that installs it; later it loads."""
    exif = Exif(NodeSettings(store))
    path_before = os.environ["PATH"]
    monkeypatch.setenv("PATH", str(tmp_path))
    for _ in range(2):
        with pytest.raises(ToolNotInstalledError, match="apt install libimage-exiftool-perl"):
            exif.load()
    exif.close()
    monkeypatch.setenv("PATH", path_before)
    exif.load()
    exif.close()
    assert [] == pids()


def test_removed_meanwhile(
    program: ExifToolProgram,
    path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """When it can't be started anew because it is gone, the call says so."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert ["Acme"] == makes(program.read([path]))
    for pid in pids():
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: psutil.Process(pids()[0]).status() == psutil.STATUS_ZOMBIE)
    with pytest.raises(ToolNotInstalledError):
        program.read([path])


def test_stop_while_it_works(path: Path, fake_exiftool: Callable[[str], None]) -> None:
    """Stopping does not wait for a call that hangs; that call fails, and so do later ones."""
    fake_exiftool(
        "while read line; do case $line in\n"
        '-j) touch "$0.asked"; exec sleep 60;;\n'
        '-execute*) echo "{ready${line#-execute}}";;\n'
        "esac; done"
    )
    program = ExifToolProgram(time_limit_s=60)
    program.start()
    errors: list[ClServeError] = []

    def call() -> None:
        with pytest.raises(ToolFailedError) as caught:
            program.read([path])
        errors.append(caught.value)

    caller = threading.Thread(target=call)
    caller.start()
    wait_until((path.parent / "bin" / "exiftool.asked").exists)
    program.stop()
    caller.join()
    assert ["ExifTool was stopped"] == [str(error) for error in errors]
    with pytest.raises(ToolFailedError, match="was stopped"):
        program.read([path])
    program.stop()


def test_outlives_the_thread_that_loads(store: ModelStore, path: Path) -> None:
    """Linux ends the program with the thread that started it, which is not the caller's."""
    exif = Exif(NodeSettings(store))
    loader = threading.Thread(target=exif.load)
    loader.start()
    loader.join()
    (pid,) = pids()
    assert ["Acme"] == makes(list(exif.infer([path])))
    assert [pid] == pids()
    exif.close()
    exif.close()
    assert [] == pids()


def test_dies_with_its_process() -> None:
    """When this process is killed, no ExifTool stays behind."""
    code = (
        "import os, psutil, time\n"
        "from deployments.exif.program import ExifToolProgram\n"
        "program = ExifToolProgram()\n"
        "program.start()\n"
        "print(psutil.Process().children()[0].pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert psutil.pid_exists(pid)
        parent.kill()
    wait_until(lambda: not psutil.pid_exists(pid))
