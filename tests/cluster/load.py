"""Clients that send requests one after another while something happens to what they ask.

They run on an event loop in a thread of their own, so that the test's own thread can deploy, kill
and wait. What comes back is every answer with its times, from which a ``Report`` counts.
"""

import asyncio
import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus

import httpx2

NO_ANSWER = 0
"""In place of the status of a request without an answer: refused, cut off or timed out."""

REFUSED_PAUSE_S = 0.1
"""Of a client that got no answer: refusals come at once, and asking without a pause would take
the processors from what is being started again."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one request got; times are of ``time.monotonic``, ``text`` is kept of failures only."""

    url: str
    status: int
    began_s: float
    ended_s: float
    text: str = ""

    @property
    def is_success(self) -> bool:
        """Whether it was answered with what was asked for."""
        return self.status == HTTPStatus.OK


@dataclass(frozen=True, slots=True)
class Report:
    """What became of all requests, in the order in which they ended."""

    answers: tuple[Answer, ...]

    @property
    def by_status(self) -> dict[int, int]:
        """How many requests ended with each status; see ``NO_ANSWER``."""
        return dict(Counter(answer.status for answer in self.answers))

    @property
    def failures(self) -> list[Answer]:
        """Every answer that was not a 200."""
        return [answer for answer in self.answers if not answer.is_success]

    def latency_s(self, quantile: float) -> float:
        """Return a quantile (0 to 1) of the times that successful requests took."""
        taken = sorted(a.ended_s - a.began_s for a in self.answers if a.is_success)
        return taken[min(len(taken) - 1, int(quantile * len(taken)))] if taken else float("nan")

    @property
    def slowest_s(self) -> float:
        """The longest that any request waited, whatever it got."""
        return max((a.ended_s - a.began_s for a in self.answers), default=0.0)

    @property
    def longest_gap_s(self) -> float:
        """The longest time in which no request succeeded, from first begin to last end."""
        if not self.answers:
            return 0.0
        moments = [a.ended_s for a in self.answers if a.is_success]
        edges = [
            min(a.began_s for a in self.answers),
            *moments,
            max(a.ended_s for a in self.answers),
        ]
        return max(later - earlier for earlier, later in itertools.pairwise(edges))

    def __str__(self) -> str:
        """Give the figures in one line."""
        statuses = ", ".join(
            f"{count} × {status or 'no answer'}" for status, count in sorted(self.by_status.items())
        )
        return (
            f"{len(self.answers)} requests: {statuses}; p50 {self.latency_s(0.5) * 1000:.0f} ms, "
            f"p99 {self.latency_s(0.99) * 1000:.0f} ms, slowest {self.slowest_s:.1f} s, "
            f"longest gap {self.longest_gap_s:.1f} s"
        )


class Load:
    """A number of clients, each of which sends its next request when the last one was answered."""

    def __init__(
        self,
        urls: str | Sequence[str],
        body: bytes,
        clients: int = 16,
        timeout_s: float = 65.0,
        pause_s: float = 0.0,
    ) -> None:
        """Say what to ask; nothing is sent yet.

        Args:
            urls: where to POST to; clients take turns where there are several.
            body: the same for every request.
            clients: how many there are.
            timeout_s: after which a request counts as not answered; a little above the service's
                own limit of 60 s, so that a hang is seen as one.
            pause_s: between two requests of a client.

        """
        self._urls = [urls] if isinstance(urls, str) else list(urls)
        self._body = body
        self._clients = clients
        self._timeout_s = timeout_s
        self._pause_s = pause_s
        self._answers: list[Answer] = []
        self._over = threading.Event()

    def run_during(self, action: Callable[[], object], at_least: int = 0) -> Report:
        """Send requests while ``action`` runs, and on until there are ``at_least`` so many.

        An exception of the action ends the load and is raised.
        """
        self._answers = []
        self._over.clear()
        thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="load")
        thread.start()
        try:
            action()
            while len(self._answers) < at_least and thread.is_alive():
                time.sleep(0.05)
        finally:
            self._over.set()
            thread.join()
        return Report(tuple(self._answers))

    async def _run(self) -> None:
        limits = httpx2.Limits(max_connections=None)
        async with httpx2.AsyncClient(timeout=self._timeout_s, limits=limits) as http:
            await asyncio.gather(*(self._client(http, i) for i in range(self._clients)))

    async def _client(self, http: httpx2.AsyncClient, number: int) -> None:
        sent = number
        while not self._over.is_set():
            answer = await self._ask(http, self._urls[sent % len(self._urls)])
            self._answers.append(answer)
            sent += 1
            pause_s = self._pause_s if answer.status != NO_ANSWER else REFUSED_PAUSE_S
            if pause_s:
                await asyncio.sleep(pause_s)

    async def _ask(self, http: httpx2.AsyncClient, url: str) -> Answer:
        began_s = time.monotonic()
        try:
            async with asyncio.timeout(self._timeout_s):
                answer = await http.post(url, content=self._body)
        except (httpx2.HTTPError, TimeoutError) as error:
            return Answer(url, NO_ANSWER, began_s, time.monotonic(), repr(error))
        text = "" if answer.status_code == HTTPStatus.OK else answer.text
        return Answer(url, answer.status_code, began_s, time.monotonic(), text)
