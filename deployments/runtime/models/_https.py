"""Downloads one URL: resumable, retried, atomic.

An unfinished download stays in the cache as ``KEY.part``, beside ``KEY.json`` with the server's
validator (its ETag, or Last-Modified where it has none). The next attempt, in this process or a
later one, asks for the rest with ``Range`` and ``If-Range``; a server whose file has changed since
then sends the whole file instead.
"""

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx2
from filelock import FileLock
from tenacity import (
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    wait_exponential,
    wait_random,
)

from deployments.runtime.atomic import atomic_write, sync
from deployments.runtime.models._entry import is_allowed_url
from deployments.runtime.models._files import (
    MAX_MEMBER_BYTES,
    SourceError,
    require_free_space,
)
from deployments.runtime.models._layout import CacheLayout

ATTEMPTS = 4
LONGEST_BACKOFF_S = 8.0
TIMEOUT = httpx2.Timeout(connect=10.0, read=30.0, write=10.0, pool=10.0)
TEMPORARY_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})

ByteReport = Callable[[int, int | None], None]
"""Called with the bytes on disk so far and the total, None when the server does not say."""


class _TemporaryError(Exception):
    """The server's answer may be another one a moment later."""


@dataclass(frozen=True, slots=True)
class _Part:
    """An unfinished download on disk."""

    content: Path
    state: Path

    def resume_point(self) -> tuple[int, str] | None:
        """Return the bytes that are here and their validator, None to begin from the start."""
        try:
            validator = json.loads(self.state.read_text(encoding="utf-8"))["validator"]
            size_bytes = self.content.stat().st_size
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return (size_bytes, str(validator)) if validator and size_bytes else None

    def begin(self, validator: str | None) -> None:
        """Forget what is here and remember the validator of what comes."""
        self.content.unlink(missing_ok=True)
        with atomic_write(self.state) as file:
            file.write(json.dumps({"validator": validator}).encode())

    def discard(self) -> None:
        """Remove every trace."""
        self.content.unlink(missing_ok=True)
        self.state.unlink(missing_ok=True)


def download(  # noqa: PLR0913 - one transfer's facts, two of them optional
    url: str,
    target: Path,
    layout: CacheLayout,
    report: ByteReport,
    *,
    expected_bytes: int | None = None,
    backoff_s: float = 0.5,
) -> None:
    """Download ``url`` to ``target``, on the same disk as the cache.

    ``expected_bytes`` is the size if it is known; a server that announces another one is not asked
    for the content. ``backoff_s`` is the first wait between attempts; it doubles.

    Raises:
        SourceError: the server refuses, or still fails after ``ATTEMPTS`` attempts.
        ModelDownloadError: the disk has no room for it.

    """
    key = hashlib.sha256(url.encode()).hexdigest()[:24]
    layout.downloads.mkdir(parents=True, exist_ok=True)
    layout.lock(key).parent.mkdir(parents=True, exist_ok=True)
    part = _Part(layout.downloads / f"{key}.part", layout.downloads / f"{key}.json")
    retrying = Retrying(
        retry=retry_if_exception_type((httpx2.TransportError, _TemporaryError)),
        stop=stop_after_attempt(ATTEMPTS),
        wait=wait_exponential(multiplier=backoff_s, max=LONGEST_BACKOFF_S)
        + wait_random(0, backoff_s),
        reraise=True,
    )
    with FileLock(layout.lock(key)):
        try:
            retrying(_attempt, url, part, report, expected_bytes)
        except (httpx2.TransportError, _TemporaryError) as error:
            reason = str(error) or type(error).__name__
            raise SourceError(f"{reason} (after {ATTEMPTS} attempts)") from error
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise SourceError(str(error) or type(error).__name__) from error
        part.content.replace(target)
        part.discard()
        sync(target.parent)


def _attempt(url: str, part: _Part, report: ByteReport, expected_bytes: int | None) -> None:
    headers = {"Accept-Encoding": "identity"}
    point = part.resume_point()
    if point:
        headers |= {"Range": f"bytes={point[0]}-", "If-Range": point[1]}
    with httpx2.stream(
        "GET", url, headers=headers, follow_redirects=True, timeout=TIMEOUT
    ) as response:
        if not is_allowed_url(str(response.url)):
            raise SourceError(f"redirects to {response.url}, which is not https")
        start_bytes = _start_of(response, part, point[0] if point else 0)
        length = response.headers.get("Content-Length", "")
        total_bytes = start_bytes + int(length) if length.isdigit() else None
        if expected_bytes and total_bytes and total_bytes != expected_bytes:
            part.discard()
            raise SourceError(f"offers {total_bytes} bytes, expected {expected_bytes}")
        to_come = (total_bytes or expected_bytes or start_bytes) - start_bytes
        require_free_space(part.content.parent, to_come)
        limit_bytes = expected_bytes or MAX_MEMBER_BYTES
        _receive(response, part, report, start_bytes, total_bytes or expected_bytes, limit_bytes)


def _start_of(response: httpx2.Response, part: _Part, asked_bytes: int) -> int:
    """Return the offset that the answer's body begins at; prepares ``part`` for it."""
    status = response.status_code
    if status == httpx2.codes.PARTIAL_CONTENT and asked_bytes:
        if response.headers.get("Content-Range", "").startswith(f"bytes {asked_bytes}-"):
            return asked_bytes
        part.discard()
        raise _TemporaryError("answered with another range than the one asked for")
    if status == httpx2.codes.RANGE_NOT_SATISFIABLE:
        part.discard()
        raise _TemporaryError("could not resume")
    if status in TEMPORARY_STATUSES:
        raise _TemporaryError(f"HTTP {status}")
    if status != httpx2.codes.OK:
        raise SourceError(f"HTTP {status}")
    etag = response.headers.get("ETag", "")
    # A weak ETag promises an equivalent file, not the same bytes, so it can't join two halves.
    strong = etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified")
    part.begin(strong)
    return 0


def _receive(  # noqa: PLR0913, PLR0917 - the state of one transfer
    response: httpx2.Response,
    part: _Part,
    report: ByteReport,
    start_bytes: int,
    total_bytes: int | None,
    limit_bytes: int,
) -> None:
    done_bytes = start_bytes
    with part.content.open("ab") as file:
        # Pieces as they arrive: collecting them to a size would lose the last one at a cut.
        for chunk in response.iter_raw():
            done_bytes += len(chunk)
            if done_bytes > limit_bytes:
                part.discard()
                raise SourceError(f"sends more than the expected {limit_bytes} bytes")
            file.write(chunk)
            report(done_bytes, total_bytes)
        file.flush()
        os.fsync(file.fileno())
