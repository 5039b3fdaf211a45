"""A video as a stream over HTTP, against the same FFmpeg command run by hand."""

import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2
import psutil

from benchmarks.capabilities.ratio import Ratio
from benchmarks.errors import BenchmarkError
from benchmarks.load.cpu import Group
from deployments.runtime.random_media import VideoGenerator

SIZE = (1280, 720)
_LOOK_EVERY_S = 0.02


def make_video(path: Path, seconds: float) -> None:
    """Write a video with sound and a cut every two seconds."""
    scenes = max(1, round(seconds / 2))
    VideoGenerator(size=SIZE, duration_s=seconds, scenes=scenes, with_audio=True).write(path)


def compare(
    url: str,
    processes: Group,
    video: Path,
    rounds: int,
) -> Ratio:
    """Measure both in turn; the command is the one that the service was seen to run.

    Args:
        url: the running service.
        processes: finds its processes.
        video: the file to send.
        rounds: how often, after one that warms up.

    """
    ours_s: list[float] = []
    by_hand_s: list[float] = []
    with httpx2.Client(base_url=url, timeout=600) as client:
        command = _seen_command(lambda: _post(client, video), processes)
        source = command.index("-i") + 1
        for _ in range(rounds):
            ours_s.append(_timed(_post, client, video))
            with tempfile.TemporaryDirectory() as folder:
                by_hand = [*command[:source], str(video), *command[source + 1 :]]
                by_hand_s.append(_timed(_run, by_hand, Path(folder)))
    return Ratio(
        "HLS of a 720p video",
        "the same FFmpeg command by hand",
        statistics.median(ours_s),
        statistics.median(by_hand_s),
        "at most",
        1.1,
    )


def _seen_command(
    work: Callable[[], object],
    processes: Group,
) -> list[str]:
    """Do the work once, and return the command line of the FFmpeg that is seen meanwhile."""
    seen: list[list[str]] = []
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(_LOOK_EVERY_S):
            for process in processes():
                with suppress(psutil.Error):
                    command = process.cmdline()
                    if command and "ffmpeg" in Path(command[0]).name:
                        seen.append(command)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        work()
    finally:
        ended.set()
        watcher.join()
    if not seen:
        raise BenchmarkError("the service ran no FFmpeg")
    return seen[-1]


def _post(client: httpx2.Client, video: Path) -> None:
    answer = client.post("/v1/hls_streaming", content=video.read_bytes())
    if answer.is_error:
        raise BenchmarkError(f"/v1/hls_streaming answered {answer.status_code}: {answer.text}")
    client.delete(f"/v1/outputs/{answer.json()['output_id']}")


def _run(command: list[str], folder: Path) -> None:
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)


def _timed(work: Callable[..., Any], *args: object) -> float:
    began_s = time.perf_counter()
    work(*args)
    return time.perf_counter() - began_s
