"""Memory by part, what has goals, and which deployments sleep; the stack itself is not started."""

import subprocess
import sys
from collections.abc import Iterator

import httpx2
import psutil
import pytest
import yaml
from rich.console import Console

from benchmarks import memory
from benchmarks.errors import BenchmarkError
from benchmarks.memory import CONFIGS, Outcome, Profile, Requests
from benchmarks.report.memory import goals_table, memory_table, start_table
from benchmarks.subjects.graph import steps_of

MIN_PYTHON_BYTES = 2_000_000
"""Less than any Python takes."""


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("gcs_server", "Ray: GCS"),
        ("ray-dashboard-NodeHead-0", "Ray: dashboard"),
        ("SERVE_CONTROLLER_ACTOR", "Serve: controller"),
        ("HAProxyManager", "Serve: proxy"),
        ("haproxy", "HAProxy"),
        ("serve_app.stack.supervisor", "supervisor"),
        ("fork_server.py", "Ray: fork server"),
        ("face_embedding", "face_embedding"),
    ],
)
def test_part(name: str, part: str) -> None:
    """What is no part of Ray or Serve is a replica, by its deployment."""
    assert part == memory.part_of(name)


@pytest.fixture
def sleeper() -> Iterator[psutil.Process]:
    """Run a process that does nothing."""
    command = [sys.executable, "-u", "-m", "http.server", "--bind", "127.0.0.1", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b"Serving")
        yield psutil.Process(process.pid)
        process.kill()


def test_pss_by_part(sleeper: psutil.Process) -> None:
    """Processes of one part are added up; one that has ended counts nothing."""
    one = memory.pss_by_part(lambda: [sleeper])
    assert ["http.server"] == list(one)
    assert one["http.server"] > MIN_PYTHON_BYTES
    two = memory.pss_by_part(lambda: [sleeper, sleeper])
    assert two["http.server"] > one["http.server"] + MIN_PYTHON_BYTES
    sleeper.kill()
    sleeper.wait()
    assert {"ended meanwhile": 0} == memory.pss_by_part(lambda: [sleeper])


@pytest.mark.parametrize(
    ("profile", "sleepers"),
    [
        ("default", {}),
        (
            "pi",
            {
                "embeddings": "dino_embedding",
                "clip_text_embedding": "clip_text_embedding",
                "hls_streaming": "hls_streaming",
            },
        ),
    ],
)
def test_sleepers(profile: Profile, sleepers: dict[str, str]) -> None:
    """Deployments that sleep do so soon, each with a node to wake it; all else is as it was."""
    raw = yaml.safe_load(CONFIGS[profile].read_text(encoding="utf-8"))
    changed, found = memory.falling_asleep_soon(raw)
    assert sleepers == found
    soon = {"downscale_to_zero_delay_s": memory.FALL_ASLEEP_S}
    expected = [
        entry | {"autoscaling_config": entry["autoscaling_config"] | soon}
        if entry["name"] in sleepers
        else entry
        for entry in raw["applications"][0]["deployments"]
    ]
    assert expected == changed["applications"][0]["deployments"]


def answering(status: int, headers: dict[str, str]) -> httpx2.Client:
    """Make a client whose service gives one answer."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        del request
        return httpx2.Response(status, headers=headers, text="its answer")

    return httpx2.Client(base_url="http://service", transport=httpx2.MockTransport(answer))


def test_wake() -> None:
    """The request that wakes a deployment is timed."""
    with answering(200, {"x-cold-start": "embeddings;ms=4100"}) as http:
        found = memory.wake(http, Requests(), {"embeddings": "dino_embedding"})
    assert ["embeddings"] == list(found)


@pytest.mark.parametrize(
    ("status", "headers", "complaint"),
    [
        (200, {}, "embeddings was expected to sleep"),
        (200, {"x-cold-start": "other;ms=1"}, "it says 'other;ms=1'"),
        (503, {}, "dino_embedding answers 503: its answer"),
    ],
)
def test_wake_fails(status: int, headers: dict[str, str], complaint: str) -> None:
    """A deployment that did not sleep gives no figure, nor does one that fails."""
    with answering(status, headers) as http, pytest.raises(BenchmarkError, match=complaint):
        memory.wake(http, Requests(), {"embeddings": "dino_embedding"})


OUTCOME = Outcome(
    "pi",
    {
        "started": {"ingress": 1_200_000_000, "HAProxy": 1_000_000},
        "asked": {"ingress": 1_400_000_000, "embeddings": 400_000_000},
        "asleep": {"ingress": 1_600_000_000},
    },
    start_s=41.0,
    wake_s={"embeddings": 7.5},
    steps_s={"Starting Ray": 5.25, "Starting the replicas": 9.0},
)


def test_figures() -> None:
    """Idle is how it starts and how it sleeps again; awake has no goal."""
    assert [
        ("memory, started", True),
        ("memory, asleep", False),
        ("cl-serve up until ready", False),
        ("first request to embeddings, asleep", True),
    ] == [(figure.title, figure.is_met) for figure in OUTCOME.figures()]
    assert 4 == len(OUTCOME.to_json()["figures"])


def test_tables() -> None:
    """Parts too small to matter share a row; each figure has its goal beside it."""
    console = Console(width=100, record=True)
    console.print(memory_table(OUTCOME), goals_table(OUTCOME), start_table(OUTCOME))
    lines = [line.split() for line in console.export_text().splitlines()]
    assert ["embeddings", "–", "400", "–"] in lines
    assert ["Starting", "the", "replicas", "9.0"] in lines
    assert ["others", "1", "–", "–"] in lines
    assert ["All", "1,201", "1,800", "1,600"] in lines
    assert ["memory,", "asleep", "1,600", "MB", "≤", "1,300", "MB", "short"] in lines


def test_steps() -> None:
    """The steps of a start are read from what `cl-serve up --verbose` prints, and nothing else."""
    said = "No x.\n  Starting Ray: 5.2 s\n  Testing every node: 12.0 s\nReady after 17 s.\n"
    assert {"Starting Ray": 5.2, "Testing every node": 12.0} == steps_of(said)
