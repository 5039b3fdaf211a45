"""FFmpeg as a program: where it is, and a run of it that is watched and leaves nothing behind.

A run takes minutes and all the cores it gets. So it is niced, reports how far it is, ends at once
when nobody waits any more, may write so much and take so long, and does not outlive this process,
even when this process is killed.
"""

import os
import re
import selectors
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deployments.runtime.errors import (
    CorruptMediaError,
    DeadlineExceededError,
    NodeUnavailableError,
    TooLargeError,
    ToolFailedError,
    ToolNotInstalledError,
)
from deployments.runtime.folders import folder_bytes
from deployments.runtime.task import current_task

_POLL_S = 0.1  # how soon a cancelled run ends, for a few wake-ups a second
_MEASURE_FOLDER_EVERY_S = 1.0  # an encoder writes some MB a second
_KEEP_FREE_BYTES = 64 * 2**20
"""Of the disk: on a full one the whole machine stops working, and FFmpeg goes on as if it wrote."""
_NICENESS = "10"  # halfway: other work goes first, and it still moves on
_SAID_BYTES = 4096  # the end of what it said: a broken video can make it say gigabytes
_SAID_LINES = 5
_TOO_MANY_BROKEN_FRAMES = 69  # its exit code when over two thirds could not be decoded
_OUT_TIME = re.compile(rb"out_time_us=(\d+)\n")


@dataclass(frozen=True, slots=True)
class RunLimits:
    """How long a run may take, and how many bytes it may write into its folder."""

    time_s: float
    max_bytes: int


def ffmpeg_exe() -> str:
    """Path of the system's FFmpeg, or of the packaged one where the system has none.

    Raises:
        ToolNotInstalledError: there is neither.

    """
    found = shutil.which("ffmpeg")
    if found:
        return found
    # Imported only here: it looks for its binary on import.
    import imageio_ffmpeg  # noqa: PLC0415

    try:
        return imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError as error:
        raise ToolNotInstalledError(
            "FFmpeg is not on this machine; `sudo apt install ffmpeg` installs it",
        ) from error


def run_ffmpeg(
    arguments: Sequence[str],
    folder: Path,
    limits: RunLimits,
    *,
    duration_s: float = 0.0,
) -> None:
    """Run FFmpeg in ``folder`` until it has ended, and report progress to the current task.

    Args:
        arguments: inputs, options and outputs; a relative output lies in ``folder``.
        folder: the working directory, which holds what it writes.
        limits: what it may take.
        duration_s: length of the output in seconds, which is what progress is measured by;
            0 where that is not known, and nothing is reported then.

    Raises:
        ToolNotInstalledError: there is no FFmpeg.
        ToolFailedError: it failed or was killed; the message ends with its last words.
        CorruptMediaError: most frames of the input could not be decoded.
        CancelledRequestError: the current task was cancelled.
        DeadlineExceededError: it took longer than it may.
        TooLargeError: it wrote more than it may.
        NodeUnavailableError: the disk is nearly full.

    """
    command = [*_wrapper(), ffmpeg_exe(), "-nostdin", "-hide_banner", "-loglevel", "error"]
    command += ["-nostats", "-progress", "pipe:1", *arguments]
    with subprocess.Popen(
        command,
        bufsize=0,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            said = _watch(process, folder, limits, duration_s)
        except BaseException:
            process.kill()
            raise
    _raise_for(process.returncode, said)


def _wrapper() -> list[str]:
    """Programs that start FFmpeg: both are part of every Debian.

    The kernel ends it with the thread that started it, and that thread waits for it. Running
    code of our own between fork and exec instead is not safe in a process with threads.
    """
    setpriv, nice = shutil.which("setpriv"), shutil.which("nice")
    return [
        *([setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []),
        *([nice, "-n", _NICENESS] if nice else []),
    ]


def _watch(
    process: subprocess.Popen[bytes],
    folder: Path,
    limits: RunLimits,
    duration_s: float,
) -> str:
    """Follow a run to its end; return the end of what it said."""
    task = current_task()
    ends_at_s = time.monotonic() + limits.time_s
    measure_at_s = 0.0
    heard = {"progress": b"", "said": b""}
    with selectors.DefaultSelector() as pipes:
        for pipe, name in ((process.stdout, "progress"), (process.stderr, "said")):
            assert pipe is not None  # noqa: S101 - narrows the type
            pipes.register(pipe, selectors.EVENT_READ, name)
        while pipes.get_map() or process.poll() is None:
            for key, _ in pipes.select(_POLL_S):
                data = os.read(key.fd, 2**16)
                if not data:
                    pipes.unregister(key.fileobj)
                heard[key.data] = (heard[key.data] + data)[-_SAID_BYTES:]
            task.raise_if_cancelled()
            now_s = time.monotonic()
            if now_s > ends_at_s:
                raise DeadlineExceededError(f"FFmpeg took longer than {limits.time_s:g} s")
            if now_s >= measure_at_s:
                _check_room(folder, limits)
                measure_at_s = now_s + _MEASURE_FOLDER_EVERY_S
            times_us = _OUT_TIME.findall(heard["progress"])
            if times_us and duration_s > 0:
                task.report(int(times_us[-1]) / 1e6 / duration_s * 100)
                heard["progress"] = b""
    _check_room(folder, limits)
    return heard["said"].decode(errors="replace")


def _check_room(folder: Path, limits: RunLimits) -> None:
    if folder_bytes(folder) > limits.max_bytes:
        raise TooLargeError(
            f"the output is larger than the limit of {limits.max_bytes / 2**20:.0f} MiB",
        )
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < _KEEP_FREE_BYTES:
        raise NodeUnavailableError(f"the disk has only {free_bytes / 2**20:.0f} MiB left")


def _raise_for(code: int, said: str) -> None:
    last = (
        " | ".join(line.strip() for line in said.splitlines()[-_SAID_LINES:]) or "it said nothing"
    )
    if code == _TOO_MANY_BROKEN_FRAMES:
        raise CorruptMediaError(f"most of the frames are broken: {last}")
    if code < 0:
        name = signal.Signals(-code).name
        raise ToolFailedError(f"FFmpeg was ended by {name}, for want of memory perhaps: {last}")
    if code > 0:
        raise ToolFailedError(f"FFmpeg failed: {last}")
