"""What a capability's long work shares with whoever waits for it: progress, and cancellation.

A host makes a ``Task`` for each request and sets it around the three steps of a capability, which
reach it with ``current_task()`` wherever they are, so that the many capabilities that take
milliseconds need not pass it along.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from deployments.runtime.errors import CancelledRequestError

ProgressListener = Callable[[float], None]
"""Takes percent of the work, 0 to 100; called in the worker thread."""


class Task:
    """One node's work for one request. Safe to use from several threads."""

    def __init__(
        self,
        listener: ProgressListener | None = None,
        destination: str | None = None,
    ) -> None:
        """Make a task that nobody has cancelled.

        Args:
            listener: is told of progress.
            destination: for a job's work, the folder in the file store for a result of many
                files.

        """
        self.destination = destination
        self._listener = listener
        self._cancelled = threading.Event()

    def report(self, percent: float) -> None:
        """Tell how much of the work is done, 0 to 100."""
        if self._listener is not None:
            self._listener(min(100.0, max(0.0, percent)))

    def cancel(self) -> None:
        """Ask the work to end; it does so when it looks next."""
        self._cancelled.set()

    @property
    def cancelled(self) -> bool:
        """Whether nobody waits for the result any more."""
        return self._cancelled.is_set()

    def raise_if_cancelled(self) -> None:
        """Raise ``CancelledRequestError`` when nobody waits for the result any more."""
        if self.cancelled:
            raise CancelledRequestError("the request was cancelled")


_current: ContextVar[Task | None] = ContextVar("current_task", default=None)


def current_task() -> Task:
    """Return the task of the work that runs now; outside of a host, one that nobody watches."""
    return _current.get() or Task()


@contextmanager
def running(task: Task) -> Iterator[Task]:
    """Make ``task`` the current one, in this thread."""
    token = _current.set(task)
    try:
        yield task
    finally:
        _current.reset(token)
