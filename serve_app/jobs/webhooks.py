"""Webhooks: an HTTP request that tells whoever submitted a job that it has ended.

Signed as the Standard Webhooks specification (standardwebhooks.com) has it, so that libraries of
many languages verify them. A URL comes from a client and is called from inside the network, so
none is called that the YAML does not allow. One attempt here; the queue makes it durable.
"""

import asyncio
import base64
import binascii
import hashlib
import hmac
import json
import re
import secrets
import ssl
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import httpx2

from deployments.runtime.errors import (
    ConfigError,
    InvalidParameterError,
    NodeUnavailableError,
)
from serve_app.jobs.job import Job
from serve_app.jobs.shown import shown
from serve_app.schema import WebhooksSpec

TIME_LIMIT_S = 10.0
"""Of one attempt, from the name's resolution to the status; the specification suggests 15 to 30,
but here an attempt holds a place in the queue, and another one follows."""

SECRET_FILE = "webhook-secret"  # noqa: S105 - a file's name

_PREFIX = "whsec_"
_SECRET_BYTES = range(24, 65)  # what the specification allows
_NEW_SECRET_BYTES = 32

_SEGMENT = r"[A-Za-z0-9_~-][A-Za-z0-9._~-]*"
_BELOW = re.compile(rf"(?:{_SEGMENT}(?:/{_SEGMENT})*/?)?(?:\?[!-~]*)?")
"""What may follow an allowed URL: plain path segments, and a query. Servers disagree on what else
leads out of a folder: ``%2e%2e``, ``..;``, ``\\``, ``//``."""


class Webhooks:
    """Checks, signs and sends webhooks."""

    def __init__(self, spec: WebhooksSpec, folder: Path) -> None:
        """Read the secret; make one in ``folder`` when the YAML names none and none is there.

        Raises:
            ConfigError: an allowed URL is none, or the secret can't be read.

        """
        self._allowed = [_allowed(url) for url in spec.allowed_urls]
        self._key = _read_key(spec.secret_file or _made(folder / SECRET_FILE))
        self._tls = ssl.create_default_context()  # made once: it takes milliseconds

    def check(self, url: str) -> None:
        """Refuse a URL that the YAML does not allow.

        Raises:
            InvalidParameterError: it is no URL, or not allowed; says how to allow it.

        """
        try:
            wanted = str(httpx2.URL(url))  # as it will be called
        except httpx2.InvalidURL as error:
            raise InvalidParameterError(f"webhook: expected a URL, got {url!r}: {error}") from error
        if not any(_is_allowed(wanted, allowed) for allowed in self._allowed):
            raise InvalidParameterError(
                f"webhook: expected a URL that the YAML allows, got {url!r}; to allow it, put it, "
                "or a URL above it that ends with `/`, into args.jobs.webhooks.allowed_urls",
            )

    async def send(self, url: str, job: Job) -> Literal["delivered", "gone"]:
        """Tell of an ended job, once; redirects are not followed.

        Returns:
            ``delivered`` after any 2xx; ``gone`` after 410, by which the receiver asks never to
            be called again.

        Raises:
            InvalidParameterError: the YAML does not allow the URL any more.
            NodeUnavailableError: any other answer, or none; another attempt can help.

        """
        self.check(url)
        target = httpx2.URL(url)
        body = _body(job)
        headers = self._headers(job, body)
        try:
            async with (
                asyncio.timeout(TIME_LIMIT_S),
                httpx2.AsyncClient(verify=self._tls, timeout=None) as client,
                # Streamed, so that what the receiver may say besides is not read.
                client.stream("POST", target, content=body, headers=headers) as response,
            ):
                status = response.status_code
        except TimeoutError as error:
            why = f"no answer within {TIME_LIMIT_S:g} s"
            raise _undelivered(target, why) from error
        except httpx2.HTTPError as error:
            raise _undelivered(target, str(error) or type(error).__name__) from error
        if status == httpx2.codes.GONE:
            return "gone"
        if not httpx2.codes.is_success(status):
            raise _undelivered(target, f"status {status}")
        return "delivered"

    def _headers(self, job: Job, body: bytes) -> dict[str, str]:
        """Sign a body; the id is the same in every attempt, so that receivers know a second one."""
        message_id = f"{job.job_id}-{job.completed_at}"
        timestamp = str(int(time.time()))
        signed = f"{message_id}.{timestamp}.".encode() + body
        signature = base64.b64encode(hmac.digest(self._key, signed, hashlib.sha256)).decode("ascii")
        return {
            "content-type": "application/json",
            "webhook-id": message_id,
            "webhook-timestamp": timestamp,
            "webhook-signature": f"v1,{signature}",
        }


def _body(job: Job) -> bytes:
    ended = datetime.fromtimestamp((job.completed_at or 0) / 1000, UTC)
    body: dict[str, Any] = {
        "type": f"job.{job.status}",
        "timestamp": ended.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "data": shown(job),
    }
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def _undelivered(target: httpx2.URL, why: str) -> NodeUnavailableError:
    # The rest of the URL may hold a secret of the receiver's.
    return NodeUnavailableError(f"webhook to {target.host}: {why}")


def _allowed(url: str) -> str:
    """Return an allowed URL in the form in which it is compared."""
    try:
        parsed = httpx2.URL(url)
        usable = parsed.scheme in {"http", "https"} and parsed.host
    except httpx2.InvalidURL:
        parsed, usable = None, False
    if parsed is None or not usable or parsed.userinfo or parsed.fragment:
        raise ConfigError(
            "args.jobs.webhooks.allowed_urls: expected https:// or http:// and a host, without a "
            f"user's name and without `#`, got {url!r}",
        )
    return str(parsed)


def _is_allowed(wanted: str, allowed: str) -> bool:
    if wanted == allowed:
        return True
    if "?" in allowed or not allowed.endswith("/") or not wanted.startswith(allowed):
        return False
    return _BELOW.fullmatch(wanted.removeprefix(allowed)) is not None


def _made(path: Path) -> Path:
    """Make a secret that only this user can read, where there is none."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
        unfinished.touch(mode=0o600)
        secret = base64.b64encode(secrets.token_bytes(_NEW_SECRET_BYTES)).decode("ascii")
        unfinished.write_text(f"{_PREFIX}{secret}\n", encoding="ascii")
        unfinished.replace(path)
    return path


def _read_key(path: Path) -> bytes:
    try:
        text = path.read_text(encoding="ascii").strip()
        key = base64.b64decode(text.removeprefix(_PREFIX), validate=True)
    except OSError as error:
        raise ConfigError(
            f"args.jobs.webhooks.secret_file: {path} can't be read: {error.strerror}",
        ) from error
    except (UnicodeDecodeError, binascii.Error):
        key, text = b"", ""
    if not text.startswith(_PREFIX) or len(key) not in _SECRET_BYTES:
        raise ConfigError(
            f"args.jobs.webhooks.secret_file: expected {_PREFIX} and 24 to 64 bytes in base64 in "
            f"{path}; `echo {_PREFIX}$(openssl rand -base64 32)` makes one",
        )
    return key
