"""Durable jobs from Python, over the handle of the job runner.

    >>> from serve_app.handles import connect
    >>> from deployments.hls_streaming import HlsStreaming
    >>> jobs = connect().jobs                                   # doctest: +SKIP
    >>> job = jobs.submit(HlsStreaming, Path("holiday.mp4"))    # doctest: +SKIP
    >>> job = jobs.wait(job.job_id)                             # doctest: +SKIP
    >>> jobs.save(job.job_id, "output/adaptive.m3u8", Path("adaptive.m3u8"))  # doctest: +SKIP

A runner that dies meanwhile is waited for; see ``remote_runner.py``.
"""

import asyncio
import uuid
from collections.abc import AsyncGenerator, Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from ray.serve.handle import DeploymentHandle

from deployments.runtime.atomic import atomic_write
from deployments.runtime.capability import Params
from deployments.runtime.errors import (
    DeadlineExceededError,
    InvalidParameterError,
    UnknownOutputError,
)
from serve_app.arguments import CapabilityType, Source, name_of, params_by_node, upload_of
from serve_app.http.form_bodies import safe_name
from serve_app.jobs.job import (
    ANALYZE,
    DEFAULT_PRIORITY,
    MAX_PRIORITY,
    Job,
    JobFilter,
    JobPage,
    JobRequest,
)
from serve_app.jobs.remote_runner import RemoteRunner

Work = CapabilityType | str | Sequence[CapabilityType | str]
"""What a job is to compute: a capability or the name of a node, or several of one file."""


class Jobs:
    """Calls the job runner. Each call has a synchronous and an ``async`` form (``…_async``).

    All raise ``UnknownJobError`` for an id that no job has, ``OverloadedError`` where too many
    calls wait already, and ``NodeUnavailableError`` when the runner stays away.
    """

    def __init__(self, handle: DeploymentHandle) -> None:
        """Wrap the handle of the runner."""
        self._runner = RemoteRunner(handle)

    def submit(
        self,
        work: Work,
        source: Source,
        *params: Params,
        priority: int = DEFAULT_PRIORITY,
        webhook: str | None = None,
        idempotency_key: str | None = None,
    ) -> Job:
        """Queue a job; return it when it is safely written down. See ``submit_async``."""
        options = {"webhook": webhook, "idempotency_key": idempotency_key}
        return asyncio.run(self.submit_async(work, source, *params, priority=priority, **options))

    async def submit_async(
        self,
        work: Work,
        source: Source,
        *params: Params,
        priority: int = DEFAULT_PRIORITY,
        webhook: str | None = None,
        idempotency_key: str | None = None,
    ) -> Job:
        """Queue a job; return it when it is safely written down.

        Args:
            work: a capability, a node's name, or several of them, which share what they can.
            source: as for ``Client.run``; a ``Path`` is sent in pieces, however large it is.
            params: parameters, each of which goes to the node that takes them.
            priority: 0 to 10; 0 is the most urgent.
            webhook: URL to call when the job has ended, one that the YAML allows.
            idempotency_key: a second submission with this key returns the first one's job.

        Raises:
            EmptyInputError: the file has not a byte.
            InvalidParameterError: the priority is not 0 to 10.
            OSError: the file can't be read.
            StorageFullError: there is no room for the file.
            UnknownOutputError: nothing is to be computed, or a parameter belongs to no node.

        """
        if not 0 <= priority <= MAX_PRIORITY:
            raise InvalidParameterError(
                f"priority: expected 0, most urgent, to {MAX_PRIORITY}, got {priority}",
            )
        several = not isinstance(work, str | type)
        outputs = tuple(map(name_of, work)) if several else (name_of(work),)
        if not outputs:
            raise UnknownOutputError("name at least one output")
        task = ANALYZE if several else outputs[0]
        node_params = params_by_node(params)
        job_id = str(uuid.uuid4())
        request = JobRequest(
            job_id,
            task,
            outputs,
            node_params,
            params={
                name if node == task else f"{node}.{name}": value
                for node, given in node_params.items()
                for name, value in given.items()
            },
            priority=priority,
            webhook=webhook,
            idempotency_key=idempotency_key,
            **await self._send(job_id, source),
        )
        return await self._runner.again("submit", request)

    def get(self, job_id: str) -> Job:
        """Return a job as it stands."""
        return asyncio.run(self.get_async(job_id))

    async def get_async(self, job_id: str) -> Job:
        """Return a job as it stands."""
        return await self._runner.again("get", job_id)

    def list(self, **wanted: Any) -> JobPage:  # noqa: ANN401 - as JobFilter takes them
        """Return some jobs, newest first; ``wanted`` are fields of ``JobFilter``."""
        return asyncio.run(self.list_async(**wanted))

    async def list_async(self, **wanted: Any) -> JobPage:  # noqa: ANN401 - as JobFilter takes them
        """Return some jobs, newest first; ``wanted`` are fields of ``JobFilter``."""
        return await self._runner.again("find", JobFilter(**wanted))

    def cancel(self, job_id: str) -> Job:
        """End a job that waits or runs; one that has ended stays as it is."""
        return asyncio.run(self.cancel_async(job_id))

    async def cancel_async(self, job_id: str) -> Job:
        """End a job that waits or runs; one that has ended stays as it is."""
        return await self._runner.again("cancel", job_id)

    def retry(self, job_id: str) -> Job:
        """Queue a failed job again. Raises ``JobStateError`` when it has not failed."""
        return asyncio.run(self.retry_async(job_id))

    async def retry_async(self, job_id: str) -> Job:
        """Queue a failed job again. Raises ``JobStateError`` when it has not failed."""
        return await self._runner.once("retry", job_id)

    def remove(self, job_id: str) -> None:
        """End a job, forget it and remove its files."""
        asyncio.run(self.remove_async(job_id))

    async def remove_async(self, job_id: str) -> None:
        """End a job, forget it and remove its files."""
        await self._runner.once("remove", job_id)

    def wait(self, job_id: str, timeout_s: float | None = None) -> Job:
        """Return a job when it has ended, completed or failed. See ``wait_async``."""
        return asyncio.run(self.wait_async(job_id, timeout_s))

    async def wait_async(self, job_id: str, timeout_s: float | None = None) -> Job:
        """Return a job when it has ended, completed or failed.

        Raises:
            DeadlineExceededError: it had not ended in time. It goes on.

        """
        job: Job | None = None
        try:
            async with asyncio.timeout(timeout_s):
                async for job in self.watch_async(job_id):  # noqa: B007 - the last one counts
                    pass
        except TimeoutError as error:
            state = f"{job.status}, {job.progress:.0f} %" if job else "not known"
            raise DeadlineExceededError(
                f"job {job_id} goes on after {timeout_s:g} s; its state is {state}",
            ) from error
        assert job is not None  # noqa: S101 - narrows the type: a watch ends with an ended job
        return job

    def watch(self, job_id: str) -> Iterator[Job]:
        """Give a job as it stands, then after each change, until it has ended."""
        with asyncio.Runner() as runner:
            changes = self.watch_async(job_id)

            async def following() -> Job | None:
                return await anext(changes, None)

            try:
                while (job := runner.run(following())) is not None:
                    yield job
            finally:
                runner.run(changes.aclose())

    def watch_async(self, job_id: str) -> AsyncGenerator[Job, None]:
        """Give a job as it stands, then after each change, until it has ended."""
        return self._runner.watch(job_id)

    def files(self, job_id: str) -> tuple[tuple[str, int], ...]:
        """Return each file's path and size in bytes: what was sent is below ``input/``."""
        return asyncio.run(self.files_async(job_id))

    async def files_async(self, job_id: str) -> tuple[tuple[str, int], ...]:
        """Return each file's path and size in bytes: what was sent is below ``input/``."""
        return await self._runner.again("files", job_id)

    def read(self, job_id: str, path: str) -> bytes:
        """Return a file of a job's result. Raises ``PathNotFoundError`` if there is none."""
        return asyncio.run(self.read_async(job_id, path))

    async def read_async(self, job_id: str, path: str) -> bytes:
        """Return a file of a job's result. Raises ``PathNotFoundError`` if there is none."""
        into = BytesIO()
        await self._runner.copy(job_id, path, into)
        return into.getvalue()

    def save(self, job_id: str, path: str, destination: Path) -> None:
        """Write a file of a job's result to ``destination``. See ``save_async``."""
        asyncio.run(self.save_async(job_id, path, destination))

    async def save_async(self, job_id: str, path: str, destination: Path) -> None:
        """Write a file of a job's result to ``destination``, which appears when it is whole.

        Raises:
            OSError: it can't be written.
            PathNotFoundError: the job has no such file.

        """
        with atomic_write(destination) as into:
            await self._runner.copy(job_id, path, into)

    async def _send(self, job_id: str, source: Source) -> dict[str, Any]:
        """Send a source's file; return the fields of ``JobRequest`` that say what was sent."""
        if isinstance(source, Path):
            with await asyncio.to_thread(source.open, "rb") as file:
                return await self._send_file(job_id, source.name, file)
        upload = upload_of(source)
        fields: dict[str, Any] = {"texts": upload.texts}
        if upload.media is not None and upload.media.path is not None:
            fields["input_path"] = upload.media.path
        elif upload.media is not None:
            data = BytesIO(upload.media.data)
            fields |= await self._send_file(job_id, upload.media.filename or "", data)
        return fields

    async def _send_file(self, job_id: str, filename: str, file: BinaryIO) -> dict[str, Any]:
        name = safe_name(filename)
        return {"input_name": name, "input_bytes": await self._runner.send(job_id, name, file)}
