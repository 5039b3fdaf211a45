"""A job runner in memory, behind a handle that behaves as Serve's."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

from ray.exceptions import ActorDiedError, RayTaskError

from deployments.runtime.errors import ClServeError
from serve_app.jobs.client import Jobs
from serve_app.jobs.job import Job, JobFilter, JobPage, JobRequest, JobStatus

LOST = ActorDiedError()


def raised_by_the_runner(error: ClServeError) -> Exception:
    """Make of an error what Ray makes of it on its way."""
    return RayTaskError("get", "a long traceback", error).as_instanceof_cause()


def job_of(request: JobRequest, status: JobStatus = "queued", progress: float = 0.0) -> Job:
    """Make a job in some state."""
    return Job(request, status, progress, 0, None, None, None, None, False, 1, 1, None, None)  # noqa: FBT003 - not dead


class Runner:
    """A runner in memory behind a handle; raises what it is told before it answers."""

    def __init__(self, *failures: BaseException) -> None:
        """Keep what is raised, one for each call or stream."""
        self.failures: list[BaseException] = list(failures)
        self.jobs: dict[str, Job] = {}
        self.inputs: dict[str, bytes] = {}
        self.states: list[tuple[JobStatus, float]] = []
        self.result = [b"one", b"two"]
        self.cancelled = 0
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> "Method":
        """Give a method, as a handle does."""
        return Method(self, name)

    def options(self, *, stream: bool) -> "Streams":
        """Ask for streams, as of a handle."""
        return Streams(self)

    def fail(self) -> None:
        """Raise what is to be raised next."""
        if self.failures:
            raise self.failures.pop(0)

    async def answer(self, method: str, *args: Any) -> Any:  # noqa: ANN401 - as a handle
        """Do what the runner would."""
        self.calls.append(method)
        await asyncio.sleep(0)
        match method, args:
            case "receive", (job_id, _, offset, data):
                self.inputs[job_id] = self.inputs.get(job_id, b"")[:offset] + data
                self.fail()
                return None
            case "submit", (request,):
                self.jobs[request.job_id] = job_of(request)
                self.fail()
                return self.jobs[request.job_id]
            case "find", (JobFilter() as wanted,):
                self.fail()
                found = [job for job in self.jobs.values() if wanted.status in (None, job.status)]
                return JobPage(tuple(found), len(found))
            case "files", _:
                self.fail()
                return (("output/a", 6),)
            case "remove", (job_id,):
                self.fail()
                return self.jobs.pop(job_id) and None
            case _, (job_id,):
                self.fail()
                return self.jobs[job_id]
        raise AssertionError(method)

    async def watch(self, job_id: str) -> AsyncIterator[Job]:
        """Give the states so far; wait for ever when there is none more to come."""
        for number, (status, progress) in enumerate(self.states):
            if number:
                self.fail()
            yield replace(self.jobs[job_id], status=status, progress=progress)
        if self.states[-1][0] not in ("completed", "failed"):
            await asyncio.sleep(3600)

    async def read(self, job_id: str, path: str) -> AsyncIterator[bytes]:
        """Give the result in two pieces."""
        yield self.result[0]
        self.fail()
        yield self.result[1]


class Method:
    """A method of a handle."""

    def __init__(self, runner: Runner, name: str) -> None:
        """Keep whose it is."""
        self._runner = runner
        self._name = name

    def remote(self, *args: Any) -> "Response":  # noqa: ANN401 - as a handle
        """Begin a call."""
        return Response(self._runner, self._runner.answer(self._name, *args))


class Response:
    """What a handle gives back."""

    def __init__(self, runner: Runner, answer: Awaitable[Any]) -> None:
        """Keep the work."""
        self._runner = runner
        self._answer = answer

    def __await__(self) -> Any:  # noqa: ANN401 - a generator
        """Do it."""
        return self._answer.__await__()

    def cancel(self) -> None:
        """Note it."""
        self._runner.cancelled += 1


class Streams:
    """A handle whose calls stream."""

    def __init__(self, runner: Runner) -> None:
        """Keep whose it is."""
        self._runner = runner

    def __getattr__(self, name: str) -> "StreamMethod":
        """Give a method."""
        return StreamMethod(
            self._runner, {"watch": self._runner.watch, "read": self._runner.read}[name]
        )


class StreamMethod:
    """A streaming method of a handle."""

    def __init__(self, runner: Runner, method: Callable[..., AsyncIterator[Any]]) -> None:
        """Keep whose it is."""
        self._runner = runner
        self._method = method

    def remote(self, *args: Any) -> "Stream":  # noqa: ANN401 - as a handle
        """Begin a stream."""
        return Stream(self._runner, self._method(*args))


class Stream:
    """What a streaming call gives back."""

    def __init__(self, runner: Runner, items: AsyncIterator[Any]) -> None:
        """Keep the items."""
        self._runner = runner
        self._items = items

    def __aiter__(self) -> AsyncIterator[Any]:
        """Give the items."""
        return self._items

    def cancel(self) -> None:
        """Note it."""
        self._runner.cancelled += 1


def jobs_of(runner: Runner) -> Jobs:
    """Make a client of a runner."""
    return Jobs(runner)  # pyright: ignore[reportArgumentType] - stands for a handle
