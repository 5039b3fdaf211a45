"""Webhooks, sent to a real server and verified there by the words of the specification."""

import base64
import hmac
import json
import ssl
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from deployments.runtime.errors import ConfigError, InvalidParameterError, NodeUnavailableError
from serve_app.jobs import webhooks
from serve_app.jobs.job import Job
from serve_app.jobs.shown import shown
from serve_app.jobs.webhooks import Webhooks
from serve_app.schema import WebhooksSpec
from tests.certificates import make_certificates
from tests.serve_app.jobs.example_jobs import COMPLETED, FAILED

KEY = bytes(range(32))
SECRET = f"whsec_{base64.b64encode(KEY).decode()}"


class Receiver(ThreadingHTTPServer):
    """Notes what it gets, and answers with the status in the path; ``/hang`` never answers."""

    daemon_threads = True

    def __init__(self) -> None:
        """Listen on a free port."""
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/"
        self.got: list[tuple[str, dict[str, str], bytes]] = []
        self.go_on = threading.Event()


class _Handler(BaseHTTPRequestHandler):
    server: Receiver  # pyright: ignore[reportIncompatibleVariableOverride] - no other one makes it

    def do_POST(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers["content-length"]))
        self.server.got.append((self.path, headers, body))
        if self.path == "/hang":
            self.server.go_on.wait()
            return
        self.send_response(int(self.path.strip("/")))
        self.send_header("location", "/200")
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Stay silent."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Run a receiver."""
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.go_on.set()
        server.shutdown()
        thread.join()


def hooks(folder: Path, *allowed: str) -> Webhooks:
    """Webhooks with a known secret."""
    file = folder / "secret"
    file.write_text(f"{SECRET}\n", encoding="ascii")
    return Webhooks(WebhooksSpec(allowed_urls=allowed, secret_file=file), folder)


@pytest.mark.parametrize("job", [COMPLETED, FAILED], ids=["completed", "failed"])
async def test_signed(receiver: Receiver, tmp_path: Path, job: Job) -> None:
    """The receiver can verify who sent it, when, and that nothing was changed."""
    before_s = int(time.time())
    sent = await hooks(tmp_path, receiver.url).send(f"{receiver.url}200", job)
    ((_, headers, body),) = receiver.got
    message_id, timestamp = headers["webhook-id"], headers["webhook-timestamp"]
    signature = hmac.digest(KEY, f"{message_id}.{timestamp}.".encode() + body, "sha256")
    assert "delivered" == sent
    assert headers["webhook-signature"] == f"v1,{base64.b64encode(signature).decode()}"
    assert before_s <= int(timestamp) <= time.time()
    assert "." not in message_id
    assert "application/json" == headers["content-type"]
    assert {
        "type": f"job.{job.status}",
        "timestamp": f"1970-01-01T00:00:0{(job.completed_at or 0) // 1000}.000Z",
        "data": shown(job),
    } == json.loads(body)


async def test_id_stays(receiver: Receiver, tmp_path: Path) -> None:
    """Every attempt has the same id, and another end of a job another one."""
    sender = hooks(tmp_path, receiver.url)
    for job in (COMPLETED, COMPLETED, FAILED):
        await sender.send(f"{receiver.url}200", job)
    first, second, third = (headers["webhook-id"] for _, headers, _ in receiver.got)
    assert first == second
    assert first != third


@pytest.mark.parametrize(("status", "expected"), [(204, "delivered"), (410, "gone")])
async def test_final_answers(
    receiver: Receiver, tmp_path: Path, status: int, expected: str
) -> None:
    """Any 2xx is a success, and 410 asks never to be called again."""
    sent = await hooks(tmp_path, receiver.url).send(f"{receiver.url}{status}", COMPLETED)
    assert expected == sent


@pytest.mark.parametrize("status", [302, 307, 400, 404, 500, 503])
async def test_other_answers(receiver: Receiver, tmp_path: Path, status: int) -> None:
    """All else is a failure that may pass, and a redirect leads nowhere."""
    with pytest.raises(NodeUnavailableError, match=f"webhook to 127.0.0.1: status {status}$"):
        await hooks(tmp_path, receiver.url).send(f"{receiver.url}{status}", COMPLETED)
    assert [f"/{status}"] == [path for path, _, _ in receiver.got]


async def test_silent_receiver(
    receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A receiver that does not answer is given up after the time limit."""
    monkeypatch.setattr(webhooks, "TIME_LIMIT_S", 0.2)
    with pytest.raises(NodeUnavailableError, match=r"no answer within 0\.2 s"):
        await hooks(tmp_path, receiver.url).send(f"{receiver.url}hang", COMPLETED)
    assert ["/hang"] == [path for path, _, _ in receiver.got]


async def test_nobody_there(receiver: Receiver, tmp_path: Path) -> None:
    """A receiver that is away is a failure that may pass; the URL's path is not told."""
    url = f"{receiver.url}token"
    receiver.server_close()
    with pytest.raises(NodeUnavailableError, match=r"webhook to 127\.0\.0\.1: ") as caught:
        await hooks(tmp_path, url).send(url, COMPLETED)
    assert "token" not in str(caught.value)


async def test_unknown_certificate(receiver: Receiver, tmp_path: Path) -> None:
    """A receiver whose certificate nobody vouches for gets nothing."""
    files = make_certificates(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)
    receiver.socket = context.wrap_socket(receiver.socket, server_side=True)
    url = receiver.url.replace("http", "https")
    with pytest.raises(NodeUnavailableError, match="CERTIFICATE_VERIFY_FAILED"):
        await hooks(tmp_path, url).send(f"{url}200", COMPLETED)
    assert [] == receiver.got


async def test_not_allowed_any_more(receiver: Receiver, tmp_path: Path) -> None:
    """A URL that the YAML allowed when the job was submitted, and no longer does, is not called."""
    with pytest.raises(InvalidParameterError, match="allowed_urls"):
        await hooks(tmp_path).send(f"{receiver.url}200", COMPLETED)
    assert [] == receiver.got


@pytest.mark.parametrize(
    ("allowed", "url"),
    [
        ("https://example.org/hook", "https://example.org/hook"),
        ("https://example.org/hook?to=me%20", "https://example.org/hook?to=me%20"),
        ("https://Example.org:443/hooks/", "HTTPS://example.org/hooks/photos"),
        ("https://example.org/hooks/", "https://example.org/hooks/"),
        ("https://example.org/hooks/", "https://example.org/hooks/a/b-1_~.x/?job=%2e&x=/../"),
        ("https://example.org/", "https://example.org/a/../b"),
        ("http://127.0.0.1:8123/", "http://127.0.0.1:8123/api/webhook/x"),
        ("http://[::1]:8123/", "http://[::1]:8123/x"),
    ],
)
def test_allowed(tmp_path: Path, allowed: str, url: str) -> None:
    """An allowed URL, and what lies below one that ends with a slash."""
    hooks(tmp_path, allowed).check(url)


@pytest.mark.parametrize(
    ("allowed", "url"),
    [
        ((), "https://example.org/"),
        (("https://example.org/hooks",), "https://example.org/hooks/photos"),
        (("https://example.org/?to=/",), "https://example.org/?to=/etc"),
        *(
            (("https://example.org/hooks/",), url)
            for url in (
                "",
                "photos",
                "https://example.org/hooks",
                "https://example.org/hooksphotos",
                "http://example.org/hooks/a",
                "https://example.org:8443/hooks/a",
                "https://example.org.evil.test/hooks/a",
                "https://example.org@evil.test/hooks/a",
                "https://me@example.org/hooks/a",
                "https://evil.test/https://example.org/hooks/",
                "https://example.org/hooks/../admin",
                "https://example.org/hooks/%2e%2e/admin",
                "https://example.org/hooks/%252e%252e/admin",
                "https://example.org/hooks/..%2fadmin",
                "https://example.org/hooks/..;/admin",
                "https://example.org/hooks/..\\admin",
                "https://example.org/hooks//admin",
                "https://example.org/hooks/a#b",
                "https://example.org/hooks/a\r\nHost: evil.test",
                "https://example.org\\@evil.test/hooks/a",
                "file:///etc/passwd",
                "https://example.org:99999999/hooks/a",
                "https://example.org/hooks/" + "a" * 10_000 + "!",
            )
        ),
    ],
)
def test_not_allowed(tmp_path: Path, allowed: tuple[str, ...], url: str) -> None:
    """Nothing else is called, however it is written; the message says how to allow it."""
    with pytest.raises(InvalidParameterError, match="webhook: expected a URL"):
        hooks(tmp_path, *allowed).check(url)


@pytest.mark.parametrize(
    "url",
    ["", "example.org", "ftp://example.org/", "https://", "https://me:x@h/", "https://h/#a", "h\0"],
)
def test_wrong_allowed_url(tmp_path: Path, url: str) -> None:
    """An allowed URL that is none is a mistake in the YAML, named by its key."""
    with pytest.raises(ConfigError, match=r"^args\.jobs\.webhooks\.allowed_urls: expected "):
        hooks(tmp_path, url)


async def test_own_secret(receiver: Receiver, tmp_path: Path) -> None:
    """A secret is made once, for this user's eyes only, and signs from then on."""
    folder = tmp_path / "jobs"
    spec = WebhooksSpec(allowed_urls=(receiver.url,))
    for _ in range(2):
        await Webhooks(spec, folder).send(f"{receiver.url}200", COMPLETED)
    file = folder / "webhook-secret"
    assert [file] == list(folder.iterdir())
    assert 0o600 == file.stat().st_mode & 0o777
    key = base64.b64decode(file.read_text(encoding="ascii").strip().removeprefix("whsec_"))
    for _, headers, body in receiver.got:
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        signature = base64.b64encode(hmac.digest(key, signed, "sha256")).decode()
        assert f"v1,{signature}" == headers["webhook-signature"]


@pytest.mark.parametrize(
    "content",
    [None, b"", b"secret", b"whsec_AAAA", b"whsec_" + b"A" * 100, b"whsec_!", b"whsec_\xff"],
)
def test_wrong_secret(tmp_path: Path, content: bytes | None) -> None:
    """A secret that is missing or none is a mistake in the YAML, named by its key."""
    file = tmp_path / "secret"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"^args\.jobs\.webhooks\.secret_file: "):
        Webhooks(WebhooksSpec(secret_file=file), tmp_path)
