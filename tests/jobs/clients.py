"""Clients that do not give up: what got no answer is sent again, with the same key."""

import queue
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

import httpx2

from tests.jobs.orders import BATCH, Order

PATIENCE_S = 150.0
"""A whole head with all its nodes is back long before."""

_PAUSE_S = 0.2
_THREADS = 4
_PAGE = 500
_AGAIN = (HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT)


Post = Callable[..., httpx2.Response]
"""Submits a job once: takes a task, the content of a file, and fields of the form."""


class Service:
    """The service behind one or several doors, each of which may be shut for a while."""

    def __init__(self, urls: Sequence[str]) -> None:
        """Name the doors."""
        self._urls = urls
        self.unexpected: list[str] = []
        """Answers of status 500."""

    def ask(self, method: str, path: str, **request: Any) -> httpx2.Response:  # noqa: ANN401 - as httpx2 takes it
        """Ask until there is an answer; return it, whatever it says."""
        deadline_s = time.monotonic() + PATIENCE_S
        while True:
            url = random.choice(self._urls)  # noqa: S311 - any door will do
            said: object
            try:
                answer = httpx2.request(method, f"{url}{path}", timeout=60, **request)
            except httpx2.TransportError as error:
                said = repr(error)
            else:
                said = answer.text
                if answer.status_code == HTTPStatus.INTERNAL_SERVER_ERROR:
                    self.unexpected.append(f"{method} {path}: {answer.text}")
                elif answer.status_code not in _AGAIN:
                    return answer
            assert time.monotonic() < deadline_s, f"{method} {path}: no answer: {said}"
            time.sleep(_PAUSE_S)

    def get(self, path: str) -> Any:  # noqa: ANN401 - any JSON
        """Ask until there is an answer, which must be a success."""
        answer = self.ask("GET", path)
        assert answer.status_code == HTTPStatus.OK, f"{path}: {answer.text}"
        return answer.json()

    def submit(self, order: Order) -> list[str]:
        """Send an order; return the ids of its jobs."""
        name = "files" if order.path == BATCH else "file"
        answer = self.ask(
            "POST",
            f"/jobs/{order.path}",
            data=order.form,
            files=[(name, file) for file in order.files],
            headers={"Idempotency-Key": order.key},
        )
        assert answer.status_code == HTTPStatus.OK, f"{order.key} {order.task}: {answer.text}"
        body = answer.json()
        return [job["job_id"] for job in body.get("jobs", [body])]

    def cancel(self, job_id: str) -> None:
        """Cancel a job, and once more where that is not confirmed."""
        answer = self.ask("POST", f"/jobs/{job_id}/cancel")
        assert answer.status_code == HTTPStatus.OK, answer.text

    def in_flight(self) -> int:
        """Count the jobs that have not ended."""
        return sum(
            self.get(f"/jobs?limit=1&status={status}")["total"]
            for status in ("queued", "in_progress")
        )

    def jobs(self) -> list[dict[str, Any]]:
        """List all jobs."""
        found: list[dict[str, Any]] = []
        while True:
            page = self.get(f"/jobs?limit={_PAGE}&offset={len(found)}")
            found += page["jobs"]
            if len(found) >= page["total"] or not page["jobs"]:
                return found

    def wait_until_idle(self, timeout_s: float = PATIENCE_S) -> None:
        """Wait until every job has ended."""
        wait_until(lambda: self.in_flight() == 0, timeout_s)


class Clients:
    """Some clients that work through what is ordered."""

    def __init__(self, service: Service) -> None:
        """Keep the service."""
        self._service = service
        self._orders: queue.Queue[Order | None] = queue.Queue()
        self.placed: dict[Order, list[str]] = {}
        """The jobs of every order that was answered."""
        self.errors: list[BaseException] = []

    def order(self, order: Order) -> None:
        """Have one of the clients send an order."""
        self._orders.put(order)

    def wait(self) -> None:
        """Wait until every order was answered."""
        self._orders.join()
        assert not self.errors, "\n".join(map(str, self.errors))

    @property
    def waiting(self) -> int:
        """Orders without an answer."""
        return self._orders.unfinished_tasks

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Run the clients for the time of the block."""
        threads = [threading.Thread(target=self._run) for _ in range(_THREADS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            for _ in threads:
                self._orders.put(None)
            for thread in threads:
                thread.join()

    def _run(self) -> None:
        while (order := self._orders.get()) is not None:
            try:
                self._place(order)
            except BaseException as error:  # noqa: BLE001 - raised by ``wait``
                self.errors.append(error)
            finally:
                self._orders.task_done()

    def _place(self, order: Order) -> None:
        ids = self._service.submit(order)
        if order.twice:
            assert ids == self._service.submit(order)
        if order.cancelled:
            for job_id in ids:
                self._service.cancel(job_id)
        self.placed[order] = ids


def ended(service: Service, job_id: str, timeout_s: float = 60.0) -> dict[str, Any]:
    """Wait until a job has ended; return it."""
    wait_until(lambda: service.get(f"/jobs/{job_id}")["completed_at"], timeout_s)
    return service.get(f"/jobs/{job_id}")


def wait_until(condition: Callable[[], object], timeout_s: float = 60.0) -> None:
    """Wait until a condition holds."""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, "it did not come true in time"
        time.sleep(0.1)
