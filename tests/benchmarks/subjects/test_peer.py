"""Peers: how they are sent photos, and one that is started, asked and ended for real."""

import base64
import json
import re

import httpx2
import psutil
import pytest

from benchmarks.errors import BenchmarkError
from benchmarks.layouts import DEFAULT_CONFIG, ROOT
from benchmarks.load.run import Timing
from benchmarks.subjects.peer import PLAIN_FASTAPI, Peer, as_form, as_json, peer_service
from benchmarks.workloads.prepare import face_workloads


def test_photos_as_json() -> None:
    """Base64, which gives the same bytes again."""
    post = as_json(b"pixels")
    assert b"pixels" == base64.b64decode(json.loads(post.body)["image"])
    assert "application/json" == post.content_type


def test_photos_as_a_form() -> None:
    """One file, whose bytes are in the body as they are."""
    post = as_form(b"pixels")
    assert b'name="images"' in post.body
    assert b"\r\n\r\npixels\r\n" in post.body


def test_a_peer_is_started_asked_and_ended() -> None:
    """Its answer is right, it is measured with its CPU, and nothing of it is left."""
    (workload,) = face_workloads(DEFAULT_CONFIG, ("small, 0 faces",))
    with peer_service(PLAIN_FASTAPI, DEFAULT_CONFIG) as service:
        processes = list(service.processes())
        assert 0 < service.check(workload, "plain FastAPI").p50_ms
        found = service.measure(workload, Timing(1, 0.0, 1.0))
        assert 0 < found.images_per_s
        assert 0 < found.cpu_ms_per_photo
        url = service.url
    assert not any(psutil.pid_exists(process.pid) for process in processes)
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(url)


def test_a_peer_that_does_not_start_says_why() -> None:
    """The message has what it printed."""
    broken = Peer("no_such_module", "/")
    with (
        pytest.raises(BenchmarkError, match=r"No module named.*no_such_module"),
        peer_service(broken, DEFAULT_CONFIG),
    ):
        pass


def test_peers_compute_with_the_versions_that_we_have() -> None:
    """The locks pin the same ONNX Runtime, NumPy and Pillow."""

    def pins(lock: str) -> set[str]:
        text = (ROOT / lock).read_text(encoding="utf-8")
        return set(re.findall(r"^(?:numpy|onnxruntime|pillow)==[^ ]+", text, re.MULTILINE))

    ours = pins("requirements.lock")
    assert len(ours) >= 3
    assert ours == pins("requirements-peers.lock")
