"""The job runner behind its Serve handle: its calls, and what becomes of those cut off.

A call that the runner's death cut off is made again where that is safe: whatever reads, a
cancellation, and a submission, whose job's id the client has chosen. What is not the same when
done twice may have been done by then, so whoever asked is told to look.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from typing import Any, BinaryIO, TypeVar

from ray.exceptions import RayTaskError
from ray.serve.exceptions import BackPressureError
from ray.serve.handle import DeploymentHandle, DeploymentResponse

from deployments.runtime.errors import (
    ClServeError,
    EmptyInputError,
    NodeUnavailableError,
    OverloadedError,
)
from serve_app.jobs.job import Job
from serve_app.remote_host import is_cut_off

CHUNK_BYTES = 4 * 2**20
"""Of a file that is sent: large enough that the calls cost little beside the copying, small
enough that many clients at once fit into the runner's memory."""

ATTEMPTS = 30
PAUSE_S = 1.0
"""Tries in a row, and the pause between them. Serve notices a dead runner within 2 s and starts
another, which takes up to 20 s on a small machine."""

T = TypeVar("T")


class RemoteRunner:
    """A job runner behind a Serve handle.

    All calls raise ``OverloadedError`` where too many wait already, and ``NodeUnavailableError``
    when the runner stays away.
    """

    def __init__(self, handle: DeploymentHandle) -> None:
        """Keep the handle."""
        self._handle = handle

    async def again(self, method: str, *args: object) -> Any:  # noqa: ANN401 - the method's own type
        """Call a method that may be called twice."""
        return await _patiently(lambda: self._call(method, *args))

    async def once(self, method: str, job_id: str) -> Any:  # noqa: ANN401 - the method's own type
        """Call a method that is not the same when called twice."""
        try:
            return await self._call(method, job_id)
        except (Exception, asyncio.CancelledError) as error:
            if not is_cut_off(error):
                raise
            raise NodeUnavailableError(
                f"the job runner went away before it could confirm: {method} job {job_id}. See "
                "how the job stands before you try again",
            ) from error

    async def watch(self, job_id: str) -> AsyncGenerator[Job, None]:
        """Give a job as it stands, then after each change, until it has ended."""
        patience = _Patience()
        last: Job | None = None
        while True:
            lost: BaseException | None = None
            try:
                async with aclosing(self._stream("watch", job_id)) as jobs:
                    async for job in jobs:
                        patience.restore()
                        if job != last:
                            yield job
                        last = job
            except (Exception, asyncio.CancelledError) as error:
                if not is_cut_off(error):
                    raise
                lost = error
            if last is not None and last.ended:
                return
            await patience.pause(lost)  # a runner that is being stopped may just end its streams

    async def copy(self, job_id: str, path: str, into: BinaryIO) -> None:
        """Write a file of a job's result into another one, from its beginning."""

        async def attempt() -> None:
            into.seek(0)
            into.truncate()
            async with aclosing(self._stream("read", job_id, path)) as chunks:
                async for chunk in chunks:
                    await asyncio.to_thread(into.write, chunk)

        await _patiently(attempt)

    async def send(self, job_id: str, name: str, file: BinaryIO) -> int:
        """Send a job's input; return its size in bytes.

        Raises:
            EmptyInputError: it has not a byte.

        """
        offset = 0
        while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
            await self.again("receive", job_id, name, offset, chunk)
            offset += len(chunk)
        if not offset:
            raise EmptyInputError(f"{name!r} is empty: 0 bytes")
        return offset

    async def _call(self, method: str, *args: object) -> Any:  # noqa: ANN401 - the method's own type
        response: DeploymentResponse[Any] = getattr(self._handle, method).remote(*args)
        try:
            with _plain_errors():
                return await response
        except asyncio.CancelledError:
            response.cancel()
            raise

    async def _stream(self, method: str, *args: object) -> AsyncGenerator[Any, None]:
        response: Any = getattr(self._handle.options(stream=True), method).remote(*args)
        try:
            with _plain_errors():
                async for item in response:
                    yield item
        except (asyncio.CancelledError, GeneratorExit):
            response.cancel()
            raise


class _Patience:
    """Counts calls in a row that were cut off, and pauses after each."""

    def __init__(self) -> None:
        self._lost = 0

    def restore(self) -> None:
        """Begin anew: the runner has answered."""
        self._lost = 0

    async def pause(self, error: BaseException | None) -> None:
        """Wait before the next try. Raises ``NodeUnavailableError`` when there were enough."""
        self._lost += 1
        if self._lost == ATTEMPTS:
            raise NodeUnavailableError(
                "the job runner does not answer; `cl-serve status` shows how it does",
            ) from error
        await asyncio.sleep(PAUSE_S)


async def _patiently(attempt: Callable[[], Awaitable[T]]) -> T:
    patience = _Patience()
    while True:
        try:
            return await attempt()
        except (Exception, asyncio.CancelledError) as error:
            if not is_cut_off(error):
                raise
            await patience.pause(error)


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Raise what the runner raised, without the trace of its process in the message."""
    try:
        yield
    except RayTaskError as error:
        if isinstance(error.cause, ClServeError):
            raise error.cause from None
        raise
    except BackPressureError as error:
        raise OverloadedError(
            "too many calls are waiting for the job runner; try again shortly",
        ) from error
