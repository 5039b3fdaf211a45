"""Log lines carry the request and the node, also from a capability's own thread."""

import logging
from collections.abc import Iterator

import pytest
from ray.serve import context

from serve_app.logs import set_up_logs
from tests.serve_app.fake import Words
from tests.serve_app.test_host import make_host, run

Seen = tuple[str, str, str, str]


@pytest.fixture
def lines() -> Iterator[list[Seen]]:
    """Collect logger, node, kind and request id of each line, as Serve's own filter finds them."""
    set_up_logs()
    seen: list[Seen] = []

    def collect(record: logging.LogRecord) -> bool:
        request_id = context._get_serve_request_context().request_id
        found = [getattr(record, key, "") for key in ("node", "kind")]
        seen.append((record.name, found[0], found[1], request_id))
        return True

    logger = logging.getLogger("ray.serve")
    handler = logging.NullHandler()
    handler.handle = collect
    logger.addHandler(handler)
    yield seen
    logger.removeHandler(handler)


async def test_failed_node_logs_once(lines: list[Seen]) -> None:
    """The node where a failure arose says so, with its kind; those behind it do not repeat it."""
    context._serve_request_context.set(context._RequestContext(request_id="mine"))  # pyright: ignore[reportArgumentType] - Ray says None
    await run(make_host(), b"\0", "lengths")
    await run(make_host(), b"crash", "lengths")
    assert lines == [
        ("ray.serve", "words", "corrupt-media", "mine"),
        ("ray.serve", "lengths", "internal", "mine"),
    ]


async def test_capability_logs(lines: list[Seen], monkeypatch: pytest.MonkeyPatch) -> None:
    """A capability knows no Serve, and its lines are found in Serve's log all the same."""

    def finish(*_: object) -> None:
        logging.getLogger("deployments.words").warning("slow program")

    monkeypatch.setattr(Words, "finish", finish)
    context._serve_request_context.set(context._RequestContext(request_id="mine"))  # pyright: ignore[reportArgumentType] - Ray says None
    await run(make_host(), b"a", "words")
    assert lines == [("deployments.words", "words", "", "mine")]


def test_set_up_twice() -> None:
    """Setting up again adds nothing."""
    set_up_logs()
    before = list(logging.getLogger("deployments").handlers)
    set_up_logs()
    assert before == logging.getLogger("deployments").handlers
    assert len(logging.getLogger("ray.serve").filters) == 1
