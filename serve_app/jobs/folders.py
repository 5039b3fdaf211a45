"""The files of jobs: where each lies in the store, and what clients call it.

A job's folder has what was sent below ``input``, and a folder for each attempt. Clients see the
files of the one attempt that counts, once it is complete, as if they lay in the job's folder.
"""

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from deployments.runtime.atomic import NO_ROOM_ERRNOS
from deployments.runtime.errors import InvalidParameterError, PathNotFoundError, StorageFullError
from deployments.runtime.file_store import FileStore
from serve_app.http.form_bodies import safe_name
from serve_app.http.streamed_form import remove_abandoned
from serve_app.jobs.job import INPUT, Job, JobRequest

JOB_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""A UUID as Python writes it."""

_ATTEMPT = re.compile(r"a(\d+)-")
"""How the folder of an attempt begins, with its number."""

INCOMING = "incoming"
"""Folder beside the table, on this machine's disk, with what is being sent."""


def key_of(job: Job, path: str) -> str:
    """Return the store's key of a file of a job.

    Raises:
        PathNotFoundError: it is a result's, and there is none.

    """
    if path == INPUT or path.startswith(f"{INPUT}/"):
        return f"{job.job_id}/{path}"
    if job.status != "completed":
        raise PathNotFoundError(f"job {job.job_id} is {job.status} and has no files of a result")
    return f"{job.job_id}/{job.attempt_id}/{path}"


class JobFolders:
    """The folders of all jobs. Methods block."""

    def __init__(self, store: FileStore, folder: Path) -> None:
        """Keep the store; ``folder`` is the one of the table."""
        self._store = store
        self._incoming = folder / INCOMING

    def receive(self, job_id: str, name: str, offset: int, data: bytes) -> None:
        """Write a part of a job's input; the one at offset 0 begins it.

        Raises:
            InvalidParameterError: the id is no UUID, or a part before this one is missing.
            StorageFullError: the disk is full.

        """
        path = self._arriving(job_id, name)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            with path.open("r+b" if offset else "w+b") as file:
                file.seek(0, 2)
                if file.tell() < offset:
                    raise InvalidParameterError(
                        f"the part at {offset} came, and {file.tell()} bytes are here; "
                        "send the whole input again",
                    )
                file.seek(offset)
                file.write(data)
                file.truncate()
        except FileNotFoundError as error:
            raise InvalidParameterError(
                f"the part at {offset} came, and nothing is here; send the whole input again",
            ) from error
        except OSError as error:
            if error.errno in NO_ROOM_ERRNOS:
                path.unlink(missing_ok=True)
                raise StorageFullError(f"the disk has no room for {name!r}") from error
            raise

    def has_arrived(self, request: JobRequest) -> bool:
        """Whether ``receive`` got a job's input, and ``take_in`` has not moved it yet."""
        if request.input_name is None or not JOB_ID.fullmatch(request.job_id):
            return False
        return self._arriving(request.job_id, request.input_name).exists()

    def take_in(self, request: JobRequest) -> None:
        """Move what has arrived into the job's folder."""
        assert request.input_name is not None, "it has arrived"  # noqa: S101 - narrows the type
        path = self._arriving(request.job_id, request.input_name)
        self._store.adopt(path, f"{request.job_id}/{INPUT}/{request.input_name}")

    def list(self, job: Job) -> tuple[tuple[str, int], ...]:
        """List a job's files as clients call them, with their sizes in bytes."""
        sent = self._store.list(f"{job.job_id}/{INPUT}")
        found = [(f"{INPUT}/{name}", size) for name, size in sent]
        if job.status == "completed":
            found += self._store.list(f"{job.job_id}/{job.attempt_id}")
        return tuple(found)

    def read(self, job: Job, path: str) -> Iterator[bytes]:
        """Read a file in parts. Raises ``PathNotFoundError``, and what the store raises."""
        key = key_of(job, path)
        return self._store.read(key, 0, self._store.info(key).size_bytes)

    def tidy(self, job_id: str, job: Job | None) -> None:
        """Remove what attempts have left that do not count; of a removed job, everything.

        Attempts that are newer than ``job`` are left alone: it may have been tried again meanwhile.
        """
        if job is None:
            self.remove(job_id)
            return
        kept = {INPUT, job.attempt_id if job.status == "completed" else None}
        names = {key.partition("/")[0] for key, _ in self._store.list(job_id)}
        for name in names - kept:
            attempt = _ATTEMPT.match(name)
            if attempt is None or int(attempt[1]) <= job.attempts:
                self._store.remove(f"{job_id}/{name}")

    def remove(self, job_id: str) -> None:
        """Remove all files of a job."""
        self._store.remove(job_id)

    def abandoned(self, before_s: float, limit: int) -> Sequence[str]:
        """List folders that nobody has touched since a time, whether or not a job has them."""
        found = []
        for name, modified_s in self._store.top_folders():
            if modified_s < before_s and JOB_ID.fullmatch(name):
                found.append(name)
                if len(found) == limit:
                    break
        return found

    def remove_abandoned(self) -> None:
        """Remove what ingresses of this machine were receiving when they died."""
        remove_abandoned(self._incoming)

    def sweep(self, older_than_s: float) -> None:
        """Remove what writers that died have left."""
        self._store.sweep(older_than_s)
        for path in self._incoming.iterdir() if self._incoming.is_dir() else ():
            with suppress(FileNotFoundError):
                if JOB_ID.match(path.name) and time.time() - path.stat().st_mtime > older_than_s:
                    path.unlink()

    def _arriving(self, job_id: str, name: str) -> Path:
        if not JOB_ID.fullmatch(job_id):
            raise InvalidParameterError(f"job_id: expected a UUID, got {job_id!r}")
        if name != safe_name(name):
            raise InvalidParameterError(
                f"the name of a file: expected one such as {safe_name(name)!r}, got {name!r}",
            )
        return self._incoming / f"{job_id}.{name}"
