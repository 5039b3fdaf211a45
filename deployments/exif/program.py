"""ExifTool as a program that keeps running, since starting Perl takes longer than a photo does.

``pyexiftool`` starts it and speaks its protocol. Three things are done differently here, because
a server lives longer than a script:

- ``pyexiftool`` waits for an answer without end, in a busy loop when the program has died. Here
  each call has a time limit; a program that died or hangs is killed, started anew and asked again.
- It asks Linux to end the program together with whoever started it, which for Linux is the
  thread and not the process. So one thread of its own starts the program and talks to it.
- A file of 400 KB can make ExifTool fill gigabytes with one compressed text, so memory is limited.
"""

import itertools
import json
import logging
import os
import resource
import selectors
import shutil
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import exiftool
from exiftool.exceptions import ExifToolException

from deployments.exif.algo.values import Values
from deployments.runtime.errors import (
    ClServeError,
    TooLargeError,
    ToolFailedError,
    ToolNotInstalledError,
)

TIME_LIMIT_S = 30.0
"""For one call. 100 small photos take 0.4 s on x86-64; the rest is for small machines and slow
disks."""

MEMORY_LIMIT_BYTES = 2**30
"""Address space of the program: 30 MB for photos, more where it holds a block of a file whole."""

MAX_OUTPUT_BYTES = 32 * 2**20
"""Of one call. A photo gives 2 to 30 KB, so 3 MB for the files of one."""

FILES_PER_CALL = 100
"""So that the time limit means the same for all batch sizes, and the command, of 3 KB, fits a pipe:
writing it never waits."""

_CHUNK_BYTES = 2**16  # what a pipe holds
_SAID_CHARS = 300  # of its messages, in ours

_ARGUMENTS = [
    "-G",  # Group:Name
    "-n",  # plain numbers instead of words for people
    "--System:all",  # names and dates of the file, which are those of our /proc path
    "-api",
    "LargeFileSupport=1",  # videos past 2 GB
    "-q",  # no messages on what it has done
    "-q",  # nor warnings beside the one among the tags
]

_ERROR = "ExifTool:Error"
# We give it no empty files, so both mean that a file was closed by a request that was given up.
_NO_FILE = frozenset({"Error opening file", "File is empty"})

logger = logging.getLogger(__name__)

Read = Values | ClServeError
"""What came of one file: its tags, or why there are none."""


class ExifToolProgram:
    """A running ExifTool, replaced when it dies or hangs. Threads may share it."""

    def __init__(self, time_limit_s: float = TIME_LIMIT_S) -> None:
        """Keep the limit; ``start`` starts the program."""
        self.time_limit_s = time_limit_s
        self._keeper = ThreadPoolExecutor(1, thread_name_prefix="exiftool")
        self._process: _Process | None = None
        self._stopped = False

    def start(self) -> None:
        """Start the program, so that the first call need not.

        Raises:
            ToolNotInstalledError: it is not on this machine.
            ToolFailedError: it does not run.

        """
        try:
            self._keeper.submit(self._running).result()
        except BaseException:
            self.stop()
            raise

    def read(self, paths: Sequence[Path]) -> list[Read]:
        """Read all tags of files, in one call.

        When the call fails, the program is started anew and each file is read on its own, so that
        one on which it dies costs the others nothing but time.

        Args:
            paths: absolute, without line breaks.

        Returns:
            One entry per path, in order: the tags without ``SourceFile``; or ``ToolFailedError``
            where ExifTool failed twice or found nothing, ``TooLargeError`` where it found too much.

        Raises:
            ToolNotInstalledError: the program has been removed meanwhile.
            ToolFailedError: it can't be started any more, or was stopped.

        """
        try:
            work = self._keeper.submit(self._read, [str(path) for path in paths])
        except RuntimeError as error:  # the thread takes nothing more
            raise ToolFailedError("ExifTool was stopped") from error
        return work.result()

    def stop(self) -> None:
        """End the program; calls that wait for it fail. It only reads, so killing it is safe."""
        self._stopped = True
        if self._process is not None:
            self._process.kill()  # the thread may be waiting for it
        self._keeper.shutdown()
        if self._process is not None:
            self._process.end()

    def _read(self, paths: Sequence[str]) -> list[Read]:
        unique = list(dict.fromkeys(paths))
        found: dict[str, Read] = {}
        for start in range(0, len(unique), FILES_PER_CALL):
            found |= self._read_call(unique[start : start + FILES_PER_CALL])
        missing = ToolFailedError("ExifTool found no file, or an empty one")
        return [found.get(path, missing) for path in paths]

    def _read_call(self, paths: Sequence[str]) -> dict[str, Read]:
        process = self._running()
        try:
            return dict(process.tags(paths))
        except (ToolFailedError, TooLargeError) as error:
            logger.warning(
                "%s; trying once more, file by file, of which there are %d", error, len(paths)
            )
        found: dict[str, Read] = {}
        for path in paths:
            process = self._running()
            try:
                found |= process.tags([path])
            except (ToolFailedError, TooLargeError) as error:
                found[path] = error
        return found

    def _running(self) -> "_Process":
        """Return the program, started if it does not run."""
        if self._stopped:
            raise ToolFailedError("ExifTool was stopped")
        if self._process is not None and self._process.running:
            return self._process
        if self._process is not None:
            self._process.end()
        self._process = None  # what fails to start is not there
        self._process = _start(self.time_limit_s)
        return self._process


class _Process(exiftool.ExifTool):
    """One process of ExifTool; the start and the protocol are ``pyexiftool``'s."""

    def __init__(self, executable: str, time_limit_s: float) -> None:
        """Keep the settings; ``run`` starts it."""
        # The empty name of a configuration file: the user's own, which is a program, is not run.
        super().__init__(executable, list(_ARGUMENTS), config_file="", encoding="utf-8")
        self._time_limit_s = time_limit_s
        self._numbers = itertools.count(1)

    @property
    def popen(self) -> Any:  # noqa: ANN401 - a Popen or None; pyexiftool declares None only
        """The process, or None before the start and after the end."""
        return self._process

    @property
    def running(self) -> bool:
        """Whether it runs; without the warning that the replaced property gives."""
        return self.popen is not None and self.popen.poll() is None

    def tags(self, paths: Sequence[str]) -> dict[str, Values]:
        """Read the tags of files: path to tags; a path that leads to no content has no entry.

        Raises:
            ToolFailedError: it died, hung or answered nonsense.
            TooLargeError: it found more than ``MAX_OUTPUT_BYTES``.

        """
        output = self.execute("-j", *paths)
        try:
            entries = json.loads(output or "[]", parse_float=Decimal, strict=False)
            found = {entry.pop("SourceFile"): entry for entry in entries}
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            self.end()
            raise ToolFailedError(f"ExifTool answered what is not its JSON: {error}") from error
        return {path: tags for path, tags in found.items() if tags.get(_ERROR) not in _NO_FILE}

    def execute(self, *params: str | bytes, raw_bytes: bool = False) -> str:
        """Run one command and return what it prints; ends the process when that fails.

        Raises what ``tags`` raises.
        """
        del raw_bytes  # part of the method that this replaces
        number = next(self._numbers)
        lines = [param.encode() if isinstance(param, str) else param for param in params]
        command = b"\n".join([*lines, b"-execute%d\n" % number])
        try:
            self.popen.stdin.write(command)
            self.popen.stdin.flush()
            return self._until(b"{ready%d}\n" % number).decode(errors="replace")
        except OSError as error:
            self.end()
            raise ToolFailedError(f"ExifTool died: {error}") from error
        except (ToolFailedError, TooLargeError):
            self.end()
            raise

    def kill(self) -> None:
        """Kill the process; whoever reads from it learns of it."""
        if (popen := self.popen) is not None:
            popen.kill()

    def end(self) -> None:
        """Kill the process, wait for its end and close its pipes; nothing if that was done."""
        popen = self.popen
        if popen is None:
            return
        popen.kill()
        popen.wait()
        for pipe in (popen.stdin, popen.stdout, popen.stderr):
            with suppress(OSError):  # what was not written yet can't be any more
                pipe.close()
        self._flag_running_false()

    def _until(self, ready: bytes) -> bytes:
        """Read what it prints up to the line that ends the answer, without that line."""
        popen = self.popen
        output, said = bytearray(), bytearray()
        ends_at_s = time.monotonic() + self._time_limit_s
        with selectors.DefaultSelector() as selector:
            # Both are read, as it would wait for us with a full pipe of messages.
            selector.register(popen.stdout, selectors.EVENT_READ, output)
            selector.register(popen.stderr, selectors.EVENT_READ, said)
            while not output.endswith(ready):
                events = selector.select(max(0.0, ends_at_s - time.monotonic()))
                if not events:
                    raise ToolFailedError(f"ExifTool gave no answer in {self._time_limit_s:g} s")
                for key, _ in events:
                    chunk = os.read(key.fd, _CHUNK_BYTES)
                    key.data.extend(chunk)
                    if not chunk and key.data is output:
                        words = said.decode(errors="replace").strip()[-_SAID_CHARS:]
                        raise ToolFailedError(f"ExifTool died: {words or 'it said nothing'}")
                    if not chunk:
                        selector.unregister(popen.stderr)
                if len(output) > MAX_OUTPUT_BYTES:
                    limit_mib = MAX_OUTPUT_BYTES / 2**20
                    raise TooLargeError(f"the metadata has more than {limit_mib:g} MiB")
                del said[:-_SAID_CHARS]
        return bytes(output[: -len(ready)])


def _start(time_limit_s: float) -> _Process:
    """Start ExifTool in this thread, and wait until it has told its version."""
    executable = shutil.which("exiftool")
    if executable is None:
        raise ToolNotInstalledError(
            "ExifTool is not installed; install it with `sudo apt install libimage-exiftool-perl`",
        )
    process = _Process(executable, time_limit_s)
    try:
        process.run()
        _limit_memory(process.popen.pid)
    except (OSError, RuntimeError, ExifToolException) as error:
        process.end()
        raise ToolFailedError(f"ExifTool does not start: {error}") from error
    return process


def _limit_memory(pid: int) -> None:
    _, hard = resource.prlimit(pid, resource.RLIMIT_AS)
    soft = MEMORY_LIMIT_BYTES if hard == resource.RLIM_INFINITY else min(MEMORY_LIMIT_BYTES, hard)
    resource.prlimit(pid, resource.RLIMIT_AS, (soft, hard))
