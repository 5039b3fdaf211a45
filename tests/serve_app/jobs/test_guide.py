"""What docs/jobs.md shows besides commands, which run with those of the other documents."""

import base64
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from serve_app.jobs.webhooks import Webhooks
from serve_app.schema import EventsSpec, JobsSpec, WebhooksSpec
from tests.e2e.blocks import ROOT, Block, blocks_of
from tests.serve_app.jobs.example_jobs import COMPLETED

BLOCKS = list(blocks_of(ROOT / "docs" / "jobs.md"))
FRAGMENTS = [pytest.param(block, id=block.name) for block in BLOCKS if block.language == "yaml"]


@pytest.mark.parametrize("block", FRAGMENTS)
def test_yaml(block: Block) -> None:
    """Each piece of YAML is one that the service takes."""
    args: dict[str, Any] = yaml.safe_load(block.code)["args"]
    kinds = {"jobs": JobsSpec, "events": EventsSpec}
    assert args
    for name, value in args.items():
        kinds[name].model_validate(value)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, True),
        ({"body": b"{}"}, False),
        ({"webhook-id": "another"}, False),
        ({"secret": f"whsec_{base64.b64encode(bytes(32)).decode()}"}, False),
    ],
    ids=["as it came", "another body", "another id", "another secret"],
)
def test_verify(tmp_path: Path, change: dict[str, Any], expected: bool) -> None:  # noqa: FBT001 - pytest gives it by name
    """The guide's receiver takes what was sent, and nothing else."""
    verify, headers, body, secret = _received(tmp_path)
    headers |= {name: value for name, value in change.items() if name in headers}
    given = (headers, change.get("body", body), change.get("secret", secret))
    assert expected is verify(*given)


def test_verify_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not take what somebody has kept and sends again later."""
    verify, headers, body, secret = _received(tmp_path)
    now_s = time.time()
    monkeypatch.setattr(time, "time", lambda: now_s + 600)
    assert not verify(headers, body, secret)


def _received(folder: Path) -> tuple[Any, dict[str, str], bytes, str]:
    """Give the guide's function, and a message as a receiver gets it."""
    (block,) = (block for block in BLOCKS if "def verify" in block.code)
    names: dict[str, Any] = {}
    exec(block.code, names)  # noqa: S102 - the project's own document
    webhooks = Webhooks(WebhooksSpec(), folder)
    body = b'{"type":"job.completed"}'
    secret = (folder / "webhook-secret").read_text(encoding="ascii")
    return names["verify"], webhooks._headers(COMPLETED, body), body, secret
