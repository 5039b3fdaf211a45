"""The graph with a deployment for each model: hops, a lost replica, sleep, metrics, logs, traces.

One stack serves all these tests, since starting one takes longer than any of them.
"""

import copy
import json
import re
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest

from deployments.runtime.models import ModelStore
from serve_app.config import ServeFile
from serve_app.settings import config_folder
from serve_app.stack import RunningStack
from serve_app.stack.ray_folder import session_folder
from tests.e2e.conftest import on_free_port, started

ROOT = Path(__file__).parents[2]

SLEEPER: dict[str, Any] = {
    "name": "hash",
    "ray_actor_options": {"num_cpus": 0.1},
    "autoscaling_config": {
        "min_replicas": 0,
        "max_replicas": 1,
        "upscale_delay_s": 0,
        "downscale_delay_s": 1,
        "look_back_period_s": 11,
    },
}

EXPORT_S = 40.0
"""Ray's processes report every 10 s, and the sampler looks every 5 s."""


@pytest.fixture(scope="module")
def observed(
    store: ModelStore,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[RunningStack]:
    """Run config/serve.deployments.yaml with tracing, and a node that sleeps."""
    del store  # installs the models
    file = on_free_port("serve.deployments.yaml")
    raw = copy.deepcopy(file.raw)
    raw["tracing_config"] = {"enabled": True, "sampling_ratio": 1.0}
    application = raw["applications"][0]
    args = application["args"]
    args["hosts"]["media_tools"].remove("hash")
    args["jobs"] = {"folder": str(tmp_path_factory.mktemp("jobs"))}
    application["deployments"].append(SLEEPER)
    with started(ServeFile(raw, file.path), tmp_path_factory.mktemp("state")) as stack:
        running = stack.running()
        assert running is not None
        yield running


@pytest.fixture(scope="module")
def client(observed: RunningStack) -> Iterator[httpx2.Client]:
    """Give an HTTP client of the stack."""
    with httpx2.Client(base_url=observed.url, timeout=60) as client:
        yield client


def eventually(what: Callable[[], bool], limit_s: float = EXPORT_S) -> bool:
    """Wait until something holds."""
    deadline_s = time.monotonic() + limit_s
    while time.monotonic() < deadline_s:
        if what():
            return True
        time.sleep(0.5)
    return False


def test_cold_start(client: httpx2.Client, read: Callable[[str], bytes]) -> None:
    """A sleeping node is ready without being woken; who wakes it is told, and the next is not."""

    def state() -> str:
        answer = client.get("/readyz")
        assert answer.status_code == 200
        return answer.json()["nodes"]["hash"]["state"]

    assert state() == "idle"
    first = client.post("/v1/hash", content=read("obama"))
    assert first.status_code == 200
    assert re.fullmatch(r"hash;ms=\d{3,}", first.headers["x-cold-start"])
    assert "x-cold-start" not in client.post("/v1/hash", content=read("obama")).headers
    assert state() == "ready"
    assert eventually(lambda: state() == "idle", 90), "probes must let it fall asleep"


def test_same_answer_over_hops(
    observed: RunningStack, http: httpx2.Client, read: Callable[[str], bytes]
) -> None:
    """Where a node runs changes its time, not its result."""
    over_hops = httpx2.post(f"{observed.url}/v1/face_embedding", content=read("obama"), timeout=60)
    assert "hop_face_embedding" in over_hops.headers["server-timing"]
    beside = http.post("/v1/face_embedding", content=read("obama"))
    (one,), (other,) = over_hops.json()["faces"], beside.json()["faces"]
    np.testing.assert_allclose(one["embedding"], other["embedding"], atol=1e-5)


def test_lost_replica_fails_no_request(
    observed: RunningStack, read: Callable[[str], bytes]
) -> None:
    """A replica that is killed under load costs its requests a second try, not their answer."""
    photo = read("obama")
    with httpx2.Client(base_url=observed.url, timeout=90) as client:

        def ask(number: int) -> int:
            if number == 20:
                kill_replica(observed, "face_detection_alignment")
            return client.post("/v1/face_embedding", content=photo).status_code

        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(ask, range(120))) == [200] * 120


def kill_replica(running: RunningStack, deployment: str) -> None:
    """Kill one replica of a deployment without a warning."""
    for process in running.mark.processes():
        title = Path(f"/proc/{process.pid}/cmdline").read_bytes().decode()
        if title.startswith("ray::ServeReplica") and deployment in title:
            process.send_signal(signal.SIGKILL)
            return
    pytest.fail(f"no replica of {deployment} is running")


def spans_of(running: RunningStack) -> list[dict[str, Any]]:
    """Read the spans that Serve's own exporter has written: JSON objects, one after another."""
    decoder = json.JSONDecoder()
    spans: list[dict[str, Any]] = []
    for file in session_folder(Path(running.folder)).glob("logs/serve/spans/*.json"):
        text = file.read_text(encoding="utf-8").strip()
        while text:
            span, end = decoder.raw_decode(text)
            spans.append(span)
            text = text[end:].lstrip()
    return spans


def test_one_connected_trace(
    client: httpx2.Client,
    observed: RunningStack,
    read: Callable[[str], bytes],
) -> None:
    """All spans of a face request, over two hops, hang on the one that Serve opened for HTTP."""
    answer = client.post(
        "/v1/face_embedding",
        content=read("obama"),
        headers={"x-request-id": "traced"},
    )
    assert answer.status_code == 200

    def trace() -> list[dict[str, Any]]:
        spans = spans_of(observed)
        ids = {
            span["context"]["trace_id"]
            for span in spans
            if span["attributes"].get("request_id") == "traced"
        }
        assert len(ids) <= 1
        return [span for span in spans if span["context"]["trace_id"] in ids]

    root = "replica_handle_request ingress __call__"
    assert eventually(lambda: root in [span["name"] for span in trace()])
    spans = {span["context"]["span_id"]: span for span in trace()}

    def above(span: dict[str, Any]) -> list[str]:
        parent = spans.get(span["parent_id"])
        return [*above(parent), parent["name"]] if parent else []

    paths = {span["name"]: above(span) for span in spans.values()}
    assert [name for name, path in paths.items() if not path] == [root]
    for node, host in [
        ("face_detection", "face_detection_alignment"),
        ("face_alignment", "face_detection_alignment"),
        ("face_embedding", "face_embedding"),
    ]:
        assert [f"route_to_replica {host} run", f"replica_handle_request {host} run"] == paths[
            node
        ][-2:]
    nodes = {
        "face_detection": ["prepare", "infer", "finish"],
        "face_alignment": ["prepare", "finish"],
        "face_embedding": ["prepare", "infer", "finish"],
    }
    for node, phases in nodes.items():
        (span,) = (span for span in spans.values() if span["name"] == node)
        below = [s for s in spans.values() if s["parent_id"] == span["context"]["span_id"]]
        below.sort(key=lambda s: s["start_time"])
        assert phases == [s["name"] for s in below]
        assert all(s["attributes"]["batch_size"] >= 1 for s in below if s["name"] == "infer")


def test_logs_follow_a_request(client: httpx2.Client, observed: RunningStack) -> None:
    """A client's request id is in the log of the host that failed, once, with node and kind."""
    answer = client.post(
        "/v1/face_embedding",
        content=b"no picture",
        headers={"x-request-id": "followed"},
    )
    assert (answer.status_code, answer.json()["request_id"]) == (415, "followed")

    def lines() -> list[dict[str, Any]]:
        logs = session_folder(Path(observed.folder)).glob("logs/serve/replica_*.log")
        found = [
            json.loads(line)
            for log in logs
            for line in log.read_text(encoding="utf-8").splitlines()
            if '"followed"' in line
        ]
        return [line for line in found if line.get("node")]

    assert eventually(lambda: len(lines()) > 0)
    assert [
        ("followed", "face_detection", "unsupported-media", "cl-ml-serve_face_detection_alignment"),
    ] == [(x["request_id"], x["node"], x["kind"], x["deployment"]) for x in lines()]


def names_in(text: str) -> set[str]:
    """Find names of metrics in a query, a document or an export."""
    return set(re.findall(r"\bray_(?:cl_serve|component|node)_[a-z_]+", text))


def test_every_panel_shows_something(
    client: httpx2.Client,
    observed: RunningStack,
    read: Callable[[str], bytes],
) -> None:
    """Each metric of the dashboard is exported after some requests, with the labels it asks for."""
    client.post("/v1/hash", content=read("obama"))
    client.post("/v1/face_embedding", content=read("obama"))
    client.post("/v1/face_embedding", content=b"no picture")
    dashboard = json.loads((config_folder() / "grafana/cl-ml-serve.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    wanted = set().union(*map(names_in, queries))
    documented = names_in((ROOT / "docs/observability.md").read_text(encoding="utf-8"))

    def export() -> str:
        text = httpx2.get(observed.metrics_url, timeout=30).text
        return "\n".join(line for line in text.splitlines() if not line.startswith("#"))

    assert eventually(lambda: wanted <= names_in(export())), wanted - names_in(export())
    series = export().splitlines()
    for query in queries:
        (name, *_), labels = sorted(names_in(query)), re.search(r"by \(([^)]*)\)", query)
        assert labels
        for label in labels[1].replace("le, ", "").split(", "):
            # `instance` is Prometheus's own name of where it found a series.
            assert label == "instance" or any(
                line.startswith(name) and f'{label}="' in line for line in series
            ), (name, label)
    ours = {name for name in names_in("\n".join(series)) if name.startswith("ray_cl_serve_")}
    bases = {re.sub(r"_(bucket|count|sum)$", "", name) for name in ours}
    assert bases == {name for name in documented if name.startswith("ray_cl_serve_")}
