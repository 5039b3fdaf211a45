"""A worker that tests steer, and requests for it."""

import asyncio
from collections.abc import AsyncGenerator

from serve_app.calls import Progress
from serve_app.jobs.job import JobRequest, JobWork, Outcome


class Steered:
    """Works on jobs as a test says: fails so often, and then waits until it is let go."""

    def __init__(self, *failures: Exception, held: bool = False) -> None:
        """Keep what is raised, one for each attempt."""
        self.failures = list(failures)
        self.order: list[str] = []
        self.stopped = asyncio.Event()
        self.begun = asyncio.Event()
        self.go_on = asyncio.Event()
        if not held:
            self.go_on.set()

    async def run(self, work: JobWork) -> AsyncGenerator[Progress | Outcome, None]:
        """Fail, wait or succeed."""
        self.order.append(work.request.params.get("name", ""))
        yield Progress("lengths", 40.0)
        self.begun.set()
        try:
            await self.go_on.wait()
        except (asyncio.CancelledError, GeneratorExit):
            self.stopped.set()
            raise
        if self.failures:
            raise self.failures.pop(0)
        yield Outcome({"done": True})


def request(number: int = 0, priority: int = 5, name: str = "") -> JobRequest:
    """Ask for something."""
    job_id = f"00000000-0000-0000-0000-{number:012}"
    return JobRequest(job_id, "lengths", ("lengths",), params={"name": name}, priority=priority)
