"""FFmpeg as a program: found, watched, limited, and gone when it should be."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from deployments.runtime.errors import (
    CancelledRequestError,
    ClServeError,
    CorruptMediaError,
    DeadlineExceededError,
    NodeUnavailableError,
    TooLargeError,
    ToolFailedError,
    ToolNotInstalledError,
)
from deployments.runtime.ffmpeg import RunLimits, ffmpeg_exe, run_ffmpeg
from deployments.runtime.task import Task, running

LIMITS = RunLimits(time_s=60.0, max_bytes=10**9)
ENDLESS = ["-re", "-f", "lavfi", "-i", "testsrc2=s=32x32", "-f", "null", "-"]


def film(duration_s: float) -> list[str]:
    """Return the arguments that make a film."""
    return ["-f", "lavfi", "-i", "testsrc2=s=64x64", "-t", f"{duration_s}", "film.mkv"]


def children(pid: int) -> list[psutil.Process]:
    """Return the FFmpeg processes below a process."""
    below = psutil.Process(pid).children(recursive=True)
    return [child for child in below if child.name().startswith("ffmpeg")]


def test_falls_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without FFmpeg on the path, the packaged one is used."""
    monkeypatch.setenv("PATH", "")
    assert Path(ffmpeg_exe()).is_absolute()


def test_system_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The system's FFmpeg is preferred: it knows the machine's hardware."""
    (tmp_path / "ffmpeg").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert str(tmp_path / "ffmpeg") == ffmpeg_exe()


def test_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any, the error says which command installs it."""

    def none() -> str:
        raise RuntimeError("No ffmpeg exe could be found")

    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("imageio_ffmpeg.get_ffmpeg_exe", none)
    with pytest.raises(ToolNotInstalledError, match="sudo apt install ffmpeg"):
        ffmpeg_exe()


def test_run(tmp_path: Path) -> None:
    """Files are written to the folder, and progress is reported up to the end."""
    told: list[float] = []
    with running(Task(told.append)):
        run_ffmpeg(film(2), tmp_path, LIMITS, duration_s=2)
    assert ["film.mkv"] == [path.name for path in tmp_path.iterdir()]
    assert pytest.approx(100, abs=10) == told[-1]


def test_unknown_duration(tmp_path: Path) -> None:
    """Nothing is reported when nobody knows how long it will be."""
    told: list[float] = []
    with running(Task(told.append)):
        run_ffmpeg(film(2), tmp_path, LIMITS)
    assert [] == told


def test_without_helpers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs on a system that lacks setpriv and nice."""
    monkeypatch.setenv("PATH", "")
    run_ffmpeg(film(0.2), tmp_path, LIMITS)
    assert (tmp_path / "film.mkv").is_file()


def test_other_work_goes_first(tmp_path: Path) -> None:
    """It runs with a higher niceness than this process."""
    seen: list[int] = []

    def look(_: float) -> None:
        seen.extend(child.nice() for child in children(os.getpid()))
        task.cancel()

    task = Task(look)
    with running(task), pytest.raises(CancelledRequestError):
        run_ffmpeg(ENDLESS, tmp_path, LIMITS, duration_s=10)
    assert [min(19, os.nice(0) + 10)] == seen


@pytest.mark.parametrize(
    ("arguments", "limits", "kind", "message"),
    [
        ([], LIMITS, ToolFailedError, "FFmpeg failed: "),
        (["-i", "none.mp4", "x.mp4"], LIMITS, ToolFailedError, "No such file"),
        (["-i", "http://localhost/x"], LIMITS, ToolFailedError, "FFmpeg failed"),
        (ENDLESS, RunLimits(0.3, 10**9), DeadlineExceededError, "longer than 0.3 s"),
        (film(5), RunLimits(60, 10_000), TooLargeError, "limit of 0 MiB"),
        (
            ["-f", "lavfi", "-i", "testsrc2", "-c:v", "rawvideo", "endless.nut"],
            RunLimits(60, 5 * 2**20),
            TooLargeError,
            "limit of 5 MiB",
        ),
    ],
)
def test_failures(
    tmp_path: Path,
    arguments: list[str],
    limits: RunLimits,
    kind: type[ClServeError],
    message: str,
) -> None:
    """Each way to fail has its error, and no process is left."""
    with pytest.raises(kind, match=message):
        run_ffmpeg(arguments, tmp_path, limits)
    assert [] == children(os.getpid())


def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends before the disk is full: it would not notice, and the machine would."""
    monkeypatch.setattr("deployments.runtime.ffmpeg._KEEP_FREE_BYTES", 2**62)
    with pytest.raises(NodeUnavailableError, match=r"the disk has only .* MiB left"):
        run_ffmpeg(ENDLESS, tmp_path, LIMITS)
    assert [] == children(os.getpid())


def test_broken_frames(tmp_path: Path) -> None:
    """An input of which most frames are broken is at fault itself."""
    run_ffmpeg([*film(2)[:-1], "-c:v", "libx264", "-g", "1", "film.mp4"], tmp_path, LIMITS)
    data = bytearray((tmp_path / "film.mp4").read_bytes())
    start, end = data.index(b"mdat") + 2000, data.index(b"moov") - 4
    data[start:end] = bytes(end - start)
    (tmp_path / "film.mp4").write_bytes(data)
    with pytest.raises(CorruptMediaError, match="most of the frames are broken"):
        run_ffmpeg(["-i", "film.mp4", "-f", "null", "-"], tmp_path, LIMITS)


def test_talkative(tmp_path: Path) -> None:
    """Of what it says only the end is kept, however much it is."""
    command = ["-loglevel", "trace", *film(20), "-i", "none.mp4"]
    with pytest.raises(ToolFailedError) as caught:
        run_ffmpeg(command, tmp_path, LIMITS)
    assert len(str(caught.value)) < 5000


def test_killed(tmp_path: Path) -> None:
    """When somebody kills it, the error says so, and the next run works."""

    def kill(_: float) -> None:
        for child in children(os.getpid()):
            child.kill()

    with (
        running(Task(kill)),
        pytest.raises(ToolFailedError, match="FFmpeg was ended by SIGKILL"),
    ):
        run_ffmpeg(ENDLESS, tmp_path, LIMITS, duration_s=10)
    run_ffmpeg(film(0.2), tmp_path, LIMITS)


def test_ends_with_this_process(tmp_path: Path) -> None:
    """When the process that started it is killed, it ends too."""
    code = (
        "from pathlib import Path\n"
        "from deployments.runtime.ffmpeg import RunLimits, run_ffmpeg\n"
        f"run_ffmpeg({ENDLESS!r}, Path({str(tmp_path)!r}), RunLimits(60.0, 10**9))\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[3]) as parent:
        while not (found := children(parent.pid)):
            time.sleep(0.05)
        parent.send_signal(signal.SIGKILL)
    _, alive = psutil.wait_procs(found, timeout=10)
    assert [] == alive
