"""Sending files to the service, with patience for a service that is busy or away.

A file whose request breaks off may be what breaks the service. So it is given up after some
tries, but only while the service is seen to work: while other files are answered, or its
self-tests succeed. Otherwise it is the service that is away, and waiting costs nothing.
"""

import errno
import os
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import PurePath
from types import TracebackType
from typing import Any, Self

import httpx2
from click import ClickException
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    wait_random_exponential,
)

from serve_app.cli.analyze.contract import json_of
from serve_app.cli.analyze.files import FileVersion, version_of
from serve_app.cli.analyze.judge import TryAgainError, judge
from serve_app.cli.analyze.results import Outcome, local_problem, record_of

ANSWER_TIMEOUT_S = 3600.0
"""The service has time limits of its own; this one is for a process that hangs."""

_ALIVE_EVERY_S = 15
_KEEP_ALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _ALIVE_EVERY_S),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _ALIVE_EVERY_S),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4),
)
"""A machine that has lost its power is noticed after about a minute."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for what.

    Attributes:
        first_wait_s: the longest first pause; pauses are random, so that not all end at once.
        longest_wait_s: the longest pause, but for a longer ``Retry-After``.
        give_up_after_s: how long nothing at all may succeed. A stack starts within a minute, and
            Ray replaces a replica in less; three minutes were seen on a small machine.
        tries: how often one file may break off before it is given up.

    """

    first_wait_s: float = 0.5
    longest_wait_s: float = 15.0
    give_up_after_s: float = 300.0
    tries: int = 4


class Service:
    """A service that answers one request; use it as a context."""

    def __init__(
        self,
        url: str,
        query: str,
        nodes: frozenset[str],
        patience: Patience,
        on_wait: Callable[[str], None],
    ) -> None:
        """Connect to nothing yet.

        Args:
            url: where the service is.
            query: outputs and parameters, as ``Request.query``.
            nodes: the nodes that must work, for which the service is asked before a file is blamed.
            patience: how long to wait.
            on_wait: is told why before each pause.

        """
        self._query = query
        self._nodes = nodes
        self._patience = patience
        self._on_wait = on_wait
        self._answered_at_s = 0.0
        self._client = httpx2.AsyncClient(
            base_url=url,
            timeout=httpx2.Timeout(ANSWER_TIMEOUT_S, connect=10.0),
            transport=httpx2.AsyncHTTPTransport(socket_options=_KEEP_ALIVE),
        )

    async def __aenter__(self) -> Self:
        """Begin."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def analyze(self, path: str, version: FileVersion) -> dict[str, Any]:
        """Send a file and return the record of what came of it.

        Raises:
            ClickException: the service stays away, or refuses whatever is sent.

        """
        try:
            with _SteadyFile(path) as content:
                version = content.version
                outcome = await self._patiently(lambda: self._send(version.path, content))
                content.check()
        except OSError as error:
            outcome = local_problem("The file can't be read", error.strerror or str(error))
        return record_of(version, self._query, outcome)

    async def _send(self, path: str, content: "_SteadyFile") -> Outcome:
        file = (PurePath(path).name, content, "application/octet-stream")
        try:
            answer = await self._client.post(f"v1/analyze?{self._query}", files={"file": file})
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout) as error:
            reason = f"there is no connection ({_say(error)})"
            raise TryAgainError(reason, may_be_the_file=False) from error
        except httpx2.TransportError as error:
            raise TryAgainError(f"the connection broke off ({_say(error)})") from error
        return judge(answer)

    async def _patiently(self, send: Callable[[], Awaitable[Outcome]]) -> Outcome:
        failing_since_s = 0.0
        breaks = 0

        def has_waited_too_long(state: RetryCallState) -> bool:
            del state
            since_s = max(self._answered_at_s, failing_since_s)
            return time.monotonic() - since_s > self._patience.give_up_after_s

        try:
            async for attempt in AsyncRetrying(
                retry=retry_if_exception_type(TryAgainError),
                wait=self._pause_s,
                stop=has_waited_too_long,
                before_sleep=self._tell,
                reraise=True,
            ):
                with attempt:
                    try:
                        outcome = await send()
                    except TryAgainError as error:
                        failing_since_s = failing_since_s or time.monotonic()
                        breaks += error.may_be_the_file
                        if breaks < self._patience.tries:
                            raise
                        if not await self._works_since(failing_since_s):
                            raise
                        return error.outcome
                    self._answered_at_s = time.monotonic()
                    return outcome
        except TryAgainError as error:
            raise ClickException(
                f"the service has been away for {self._patience.give_up_after_s:g} s: {error}",
            ) from error
        raise AssertionError("unreachable")

    def _pause_s(self, state: RetryCallState) -> float:
        patience = self._patience
        usual = wait_random_exponential(patience.first_wait_s, patience.longest_wait_s)
        asked_s = min(_error_of(state).retry_after_s, patience.give_up_after_s)
        return max(usual(state), asked_s)

    def _tell(self, state: RetryCallState) -> None:
        self._on_wait(str(_error_of(state)))

    async def _works_since(self, moment_s: float) -> bool:
        """Tell whether the service has answered since then, or answers its self-tests now."""
        if self._answered_at_s > moment_s:
            return True
        with suppress(httpx2.TransportError):
            states = json_of(await self._client.get("readyz")).get("nodes", {})
            return all(states.get(name, {}).get("state") == "ready" for name in self._nodes)
        return False


class _SteadyFile(FileIO):
    """A file that is the same to the end: what it was by then would answer for what it is now."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self._path = path
        self.version = version_of(path, os.fstat(self.fileno()))

    def read(self, size: int | None = -1, /) -> bytes:
        """Read on; a body that is longer or shorter than announced would break the connection."""
        data = super().read(size)
        at = self.tell()
        if at > self.version.size_bytes or (not data and at < self.version.size_bytes):
            raise _changed()
        return data

    def check(self) -> None:
        """Raise ``OSError`` if the file, or what now has its name, is another version."""
        if self.version != version_of(self._path, os.stat(self._path)):  # noqa: PTH116 - kept as text
            raise _changed()


def _changed() -> OSError:
    return OSError(errno.ESTALE, "it changed while it was sent")


def _error_of(state: RetryCallState) -> TryAgainError:
    error = state.outcome.exception() if state.outcome else None
    assert isinstance(error, TryAgainError)  # noqa: S101 - narrows the type: nothing else is retried
    return error


def _say(error: httpx2.TransportError) -> str:
    return str(error) or type(error).__name__
