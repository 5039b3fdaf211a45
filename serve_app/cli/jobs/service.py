"""The job API of a service over HTTP, with patience for one that restarts.

Jobs outlive the service, and so do the commands that wait for them: once it has answered, a
connection that breaks is taken up again. Each submission has an idempotency key, so that one
whose answer was lost is not a second job.
"""

import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from types import TracebackType
from typing import Any, BinaryIO, Self, TypeVar
from urllib.parse import quote

import httpx2
from click import ClickException

from serve_app.cli.analyze.contract import json_of, kind_of
from serve_app.cli.analyze.files import shown
from serve_app.cli.analyze.judge import retry_after_s
from serve_app.jobs.job import ENDED

GIVE_UP_S = 300.0
"""How long a service that has answered may be away. A stack starts within a minute; three minutes
were seen on a small machine."""

PAUSE_S = 1.0
"""Before a service that is away is asked again."""

TIMEOUT_S = 60.0
"""Without a byte, after which a connection counts as broken: events are never further apart than
15 s, as the service sends comments in between."""

PAGE = 200
"""Jobs that are asked for at once."""

_PASSING = frozenset(
    {HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT},
)

_ADVICE = {
    "unknown-job": "`cl-serve jobs list` shows the jobs there are; ended ones are kept for a time",
    "job-state": "`cl-serve jobs show ID` shows its state",
    "storage-full": "Remove jobs that are done with: cl-serve jobs rm ID...",
    "not-found": "A graph has jobs when the args of its YAML file say `jobs: {}`",
}
"""Kind of a problem to what one may do about it."""

T = TypeVar("T")
Job = dict[str, Any]
"""A job as ``GET /jobs/{id}`` shows it."""


class _AwayError(Exception):
    """The service can't answer now; ``str(error)`` says why."""

    def __init__(self, reason: str, wait_s: float = 0.0) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


class JobService:
    """The jobs of a service; use it as a context.

    All calls raise ``ClickException``, with advice, when the service refuses or stays away.
    """

    def __init__(self, url: str, on_wait: Callable[[str], None]) -> None:
        """Connect to nothing yet; ``on_wait`` is told why before each pause."""
        self._on_wait = on_wait
        self._url = url
        self._answered = False
        # With a transport of its own a client takes no proxy from the environment: a service is
        # on this machine or on its network.
        transport = httpx2.HTTPTransport()
        self._client = httpx2.Client(base_url=url, timeout=TIMEOUT_S, transport=transport)

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the connections."""
        self._client.close()

    def submit(
        self,
        task: str,
        fields: Sequence[tuple[str, str]],
        file: tuple[str, BinaryIO] | None,
    ) -> str:
        """Submit a job; return its id. ``file`` is a name and the open file."""
        key = {"idempotency-key": str(uuid.uuid4())}
        # The fields come first, so that a wrong one is refused before the file is sent.
        parts: list[tuple[str, Any]] = [(name, (None, value)) for name, value in fields]
        if file is not None:
            parts.append(("file", (*file, "application/octet-stream")))

        def send() -> str:
            if file is not None:
                file[1].seek(0)
            url = f"jobs/{quote(task, safe='')}"
            return self._body(self._client.post(url, files=parts, headers=key))["job_id"]

        return self._patiently(send)

    def get(self, job_id: str) -> Job:
        """Return a job."""
        return self._patiently(lambda: self._body(self._client.get(_path(job_id))))

    def list(
        self,
        wanted: Mapping[str, str],
        limit: int,
        offset: int = 0,
    ) -> tuple[Sequence[Job], int]:
        """Return some jobs, newest first, and how many match in all."""
        query = {**wanted, "limit": str(limit), "offset": str(offset)}
        body = self._patiently(lambda: self._body(self._client.get("jobs", params=query)))
        return body["jobs"], body["total"]

    def all(self, wanted: Mapping[str, str]) -> Sequence[Job]:
        """Return all jobs that match."""
        found: dict[str, Job] = {}  # as jobs come and go, one may be on two pages
        offset, total = 0, 1
        while offset < total:
            page, total = self.list(wanted, PAGE, offset)
            found |= {job["job_id"]: job for job in page}
            offset += PAGE
        return tuple(found.values())

    def cancel(self, job_id: str) -> Job:
        """End a job."""
        return self._patiently(lambda: self._body(self._client.post(_path(job_id, "cancel"))))

    def retry(self, job_id: str) -> Job:
        """Queue a failed job again."""
        return self._once(lambda: self._body(self._client.post(_path(job_id, "retry"))))

    def remove(self, job_id: str) -> None:
        """Forget a job and its files."""
        self._once(lambda: self._check(self._client.delete(_path(job_id))))

    def watch(self, job_id: str) -> Iterator[Job]:
        """Give a job as it stands, then after each change, until it has ended."""
        away_since_s: float | None = None
        last: Job | None = None
        while True:
            away = _AwayError("the connection ended")  # as of a service that is being stopped
            try:
                with self._client.stream("GET", _path(job_id, "events")) as answer:
                    self._check(answer)
                    for event in httpx2.EventSource(answer, max_event_size=None):
                        job: Any = event.json()
                        if event.event == "problem":
                            raise _refusal(job, job["status"], job["title"])
                        away_since_s = None
                        if job != last:
                            yield job
                        last = job
                        if job["status"] in ENDED:
                            return
            except (httpx2.TransportError, _AwayError) as error:
                away = self._away(error)
            away_since_s = self._pause(away, away_since_s)

    def files(self, job_id: str) -> Sequence[tuple[str, int]]:
        """Return the path and the size in bytes of each file of a job's result."""
        body = self._patiently(lambda: self._body(self._client.get(_path(job_id, "files"))))
        return [(file["path"], file["size_bytes"]) for file in body["files"]]

    def download(
        self,
        job_id: str,
        path: str,
        into: BinaryIO,
        on_bytes: Callable[[int], None],
    ) -> None:
        """Write a file of a job's result; go on where a connection broke.

        Args:
            job_id: the job.
            path: the file.
            into: an empty file.
            on_bytes: is told how many bytes there are.

        """
        url = _path(job_id, "files", *path.split("/"))

        def receive() -> None:
            # Compressed on its way, the parts would not be those of the file.
            headers = {"accept-encoding": "identity"}
            if into.tell():
                headers["range"] = f"bytes={into.tell()}-"
            with self._client.stream("GET", url, headers=headers) as answer:
                if answer.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                    return  # it was whole already: nothing comes after its end
                self._check(answer)
                if answer.status_code != HTTPStatus.PARTIAL_CONTENT:
                    into.seek(0)
                    into.truncate()
                for chunk in answer.iter_bytes():
                    into.write(chunk)
                    on_bytes(into.tell())

        self._patiently(receive)

    def _patiently(self, send: Callable[[], T]) -> T:
        away_since_s: float | None = None
        while True:
            try:
                return send()
            except (httpx2.TransportError, _AwayError) as error:
                away_since_s = self._pause(self._away(error), away_since_s)

    def _once(self, send: Callable[[], T]) -> T:
        """Do what is not the same when done twice."""
        try:
            return send()
        except (httpx2.TransportError, _AwayError) as error:
            away = self._away(error)
            raise ClickException(
                f"it is not known whether this was done: {away}. See with `cl-serve jobs show ID`",
            ) from error

    def _away(self, error: Exception) -> _AwayError:
        """Say why there was no answer. Raises ``ClickException`` if there has been none at all."""
        if isinstance(error, _AwayError):
            return error
        if not self._answered:
            raise ClickException(
                f"no service answers at {self._url} ({shown(str(error))}). Start one with "
                "`cl-serve up`, or name another with --url",
            ) from error
        return _AwayError(f"the connection broke ({shown(str(error)) or type(error).__name__})")

    def _pause(self, away: _AwayError, since_s: float | None) -> float:
        """Wait before the next try; return since when the service is away."""
        now_s = time.monotonic()
        since_s = now_s if since_s is None else since_s
        if now_s - since_s > GIVE_UP_S:
            raise ClickException(
                f"the service has been away for {GIVE_UP_S:g} s: {away}. Jobs go on when it is "
                "back; the same command waits for them",
            ) from away
        self._on_wait(str(away))
        time.sleep(max(PAUSE_S, min(away.wait_s, GIVE_UP_S)))
        return since_s

    def _body(self, answer: httpx2.Response) -> dict[str, Any]:
        self._check(answer)
        return json_of(answer)

    def _check(self, answer: httpx2.Response) -> None:
        """Raise what an answer means that is no success."""
        self._answered = True
        if answer.is_success:
            return
        answer.read()
        said = f"{answer.status_code} {answer.reason_phrase}"
        raise _refusal(json_of(answer), answer.status_code, said, retry_after_s(answer))


def _refusal(
    problem: Mapping[str, Any],
    status: int,
    otherwise: str,
    wait_s: float = 0.0,
) -> ClickException | _AwayError:
    """Make what is to be raised of a problem, or of an answer that is none of the service."""
    said = shown(str(problem.get("detail", otherwise)))
    if status in _PASSING:
        return _AwayError(said, wait_s)
    advice = _ADVICE.get(kind_of(problem) or "")
    return ClickException(f"{said}\n{advice}" if advice else said)


@contextmanager
def errors_explained() -> Iterator[None]:
    """Show what the system refuses as a sentence, without a traceback."""
    try:
        yield
    except OSError as error:
        where = f"{shown(str(error.filename))}: " if error.filename else ""
        raise ClickException(f"{where}{error.strerror or error}") from error
    except httpx2.InvalidURL as error:
        raise ClickException(f"--url: {error}") from error


def _path(job_id: str, *parts: str) -> str:
    return "/".join(["jobs", *(quote(part, safe="") for part in (job_id, *parts))])
