"""Memory of a whole stack, part by part, idle, awake and asleep; and how long it takes to wake.

A machine of 4 GB has to hold Ray, Serve and the models beside the system, so the shipped profiles
have goals, which this measures. PSS is what counts: a page that n processes share counts as 1/n in
each, so the sum is what the stack takes from the machine. Every model takes part, DINOv2 and
MobileCLIP as stand-ins of full size.
"""

import copy
import io
import tempfile
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any, Literal

import httpx2
import psutil
import yaml

from benchmarks.capabilities.comparison import install_stand_ins
from benchmarks.errors import BenchmarkError
from benchmarks.layouts import INGRESS, ROOT
from benchmarks.load.child import in_process
from benchmarks.load.cpu import Group, name_of
from benchmarks.progress import Steps
from benchmarks.subjects.graph import graph_service
from deployments.runtime.random_media import ImageGenerator, VideoGenerator

Profile = Literal["default", "pi"]

CONFIGS: Mapping[Profile, Path] = {
    "default": ROOT / "config" / "serve.yaml",
    "pi": ROOT / "config" / "serve.pi.yaml",
}
GOAL_BYTES: Mapping[Profile, float] = {"default": 1.9e9, "pi": 1.3e9}
START_GOAL_S = 40.0
"""Of `cl-serve up` until it returns, on two x86-64 cores, with models installed."""
WAKE_GOAL_S = 8.0
"""Of the first request to a deployment that sleeps."""

OUTSIDE_STEPS = "Importing, checking, trying a photo"
"""What `cl-serve up` does before and after the steps that it shows."""

EXPECTED_S = 160.0
"""Of one profile: start, settle, ask, sleep, wake and end."""

SETTLE_S = 15.0
"""Between the last work and a look: what was started has imported everything by then, and ONNX
Runtime and Python have given back what they give back."""

FALL_ASLEEP_S = 10.0
"""In place of the minutes that the profile waits; nothing else is changed. Serve notices that
nobody asks after 10 to 40 s more."""

ASLEEP_TIMEOUT_S = 120.0
POLL_S = 1.0
REQUEST_TIMEOUT_S = 120.0
PHOTO_PX = (1200, 800)


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure beside its goal."""

    title: str
    value: float
    goal: float
    unit: Literal["MB", "s"]

    @property
    def is_met(self) -> bool:
        """Whether the figure is as small as wanted."""
        return self.value <= self.goal


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one profile took.

    Attributes:
        profile: which one.
        parts_bytes: state of the stack to part to PSS. States are ``started``, ``asked`` (every
            node has answered one request) and, where deployments sleep, ``asleep`` (again).
        start_s: of `cl-serve up`.
        wake_s: deployment to the time of the request that woke it.
        steps_s: the steps of the start, with what came before and after them.

    """

    profile: Profile
    parts_bytes: Mapping[str, Mapping[str, int]]
    start_s: float
    wake_s: Mapping[str, float] = field(default_factory=dict)
    steps_s: Mapping[str, float] = field(default_factory=dict)

    def figures(self) -> list[Figure]:
        """Compare with the goals; idle is how it starts, and how it is when it sleeps again."""
        idle = [state for state in self.parts_bytes if state != "asked"]
        found = [
            Figure(
                f"memory, {state}",
                sum(self.parts_bytes[state].values()) / 1e6,
                GOAL_BYTES[self.profile] / 1e6,
                "MB",
            )
            for state in idle
        ]
        found.append(Figure("cl-serve up until ready", self.start_s, START_GOAL_S, "s"))
        return found + [
            Figure(f"first request to {name}, asleep", seconds, WAKE_GOAL_S, "s")
            for name, seconds in self.wake_s.items()
        ]

    def to_json(self) -> dict[str, Any]:
        """Write it as plain data."""
        return asdict(self) | {"figures": [asdict(figure) for figure in self.figures()]}


class Requests:
    """What to send to each node: a photo, unless it takes something else."""

    def __init__(self) -> None:
        """Make a photo and a video."""
        photo = {"files": {"file": ("photo.jpg", _photo())}}
        text = {"data": {"text": "a man in a suit"}}
        self._any = photo
        self._special: dict[str, dict[str, Any]] = {
            "clip_text_embedding": text,
            "clip_similarity": photo | text,
            "media_thumbnail": photo | {"params": {"width": 256, "height": 256}},
            "image_conversion": photo | {"params": {"format": "webp"}},
            "hls_streaming": {"files": {"file": ("video.mp4", _video())}},
        }

    def ask(self, http: httpx2.Client, node: str) -> httpx2.Response:
        """Send one node its request, and return the answer.

        Raises:
            BenchmarkError: it failed.

        """
        answer = http.post(f"/v1/{node}", **self._special.get(node, self._any))
        if answer.status_code != HTTPStatus.OK:
            raise BenchmarkError(f"{node} answers {answer.status_code}: {answer.text}")
        return answer


def measure_shipped(profile: Profile, steps: Steps) -> Outcome:
    """Measure a shipped file of a profile; writes and installs the stand-ins first."""
    with (
        tempfile.TemporaryDirectory(prefix="cl-serve-bench-") as folder,
        steps.step(
            profile,
            EXPECTED_S,
        ),
    ):
        steps.show(f"{profile}: installing the models")
        config, _ = in_process(install_stand_ins, None, CONFIGS[profile], Path(folder))
        return measure(profile, config, steps)


def measure(profile: Profile, config: Path, steps: Steps) -> Outcome:
    """Start a stack of its own and measure it.

    Args:
        profile: whose goals apply.
        config: its YAML file, every model of which must be installed.
        steps: is told what goes on.

    Raises:
        BenchmarkError: it did not start, a request failed, or a deployment did not fall asleep.

    """
    raw = yaml.safe_load(config.read_text(encoding="utf-8"))
    quick, sleepers = falling_asleep_soon(raw)
    requests = Requests()
    parts: dict[str, dict[str, int]] = {}
    with ExitStack() as stack:
        steps.show(f"{profile}: starting")
        began_s = time.perf_counter()
        service = stack.enter_context(graph_service(config, quick))
        start_s = time.perf_counter() - began_s
        url = service.url.partition("/v1/")[0]
        http = stack.enter_context(httpx2.Client(base_url=url, timeout=REQUEST_TIMEOUT_S))

        def look(state: str) -> None:
            steps.show(f"{profile}: {state}")
            time.sleep(SETTLE_S)
            parts[state] = pss_by_part(service.processes)

        look("started")
        wake_s = wake(http, requests, sleepers)
        for node in quick["applications"][0]["args"]["graph"]:
            requests.ask(http, node)
        look("asked")
        if sleepers:
            steps.show(f"{profile}: waiting until it sleeps")
            _wait_until_asleep(service.processes, sleepers)
            look("asleep")
    rest = {OUTSIDE_STEPS: start_s - sum(service.steps_s.values())}
    return Outcome(profile, parts, start_s, wake_s, rest | dict(service.steps_s))


def falling_asleep_soon(raw: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Let deployments that sleep do so after seconds.

    Args:
        raw: the content of a YAML file.

    Returns:
        The changed content, and for each deployment that sleeps one of its nodes.

    """
    changed = copy.deepcopy(raw)
    application = changed["applications"][0]
    hosts = application["args"].get("hosts") or {}
    sleepers: dict[str, str] = {}
    for entry in application.get("deployments") or []:
        scaling = entry.get("autoscaling_config") or {}
        if scaling.get("min_replicas") == 0 and entry["name"] != INGRESS:
            entry["autoscaling_config"] = scaling | {"downscale_to_zero_delay_s": FALL_ASLEEP_S}
            sleepers[entry["name"]] = hosts.get(entry["name"], [entry["name"]])[0]
    return changed, sleepers


def wake(http: httpx2.Client, requests: Requests, sleepers: Mapping[str, str]) -> dict[str, float]:
    """Ask one node of each sleeping deployment; return how long each deployment took to answer.

    Raises:
        BenchmarkError: a request failed, or its answer does not say that it woke the deployment.

    """
    found: dict[str, float] = {}
    for deployment, node in sleepers.items():
        began_s = time.perf_counter()
        answer = requests.ask(http, node)
        found[deployment] = time.perf_counter() - began_s
        said = answer.headers.get("x-cold-start", "")
        if not said.startswith(f"{deployment};"):
            raise BenchmarkError(
                f"{deployment} was expected to sleep, and the answer of {node} to say so in "
                f"X-Cold-Start; it says {said!r}",
            )
    return found


def pss_by_part(group: Group) -> dict[str, int]:
    """Add up the PSS of a stack's processes, in bytes, by what they are; the largest part first."""
    return _added_up((name_of(process), _pss_bytes(process)) for process in group())


_PARTS = {
    "gcs_server": "Ray: GCS",
    "raylet": "Ray: raylet",
    "dashboard": "Ray: dashboard",
    "ray-dashboard-": "Ray: dashboard",
    "python": "Ray: dashboard",  # what its processes are forked from
    "agents": "Ray: agents",
    "DashboardAgent": "Ray: agents",
    "RuntimeEnvAgent": "Ray: agents",
    "fork_server.py": "Ray: fork server",
    "IDLE": "Ray: workers in reserve",
    "ServeController": "Serve: controller",
    "SERVE_CONTROLLER_ACTOR": "Serve: controller",
    "ProxyActor": "Serve: proxy",
    "SERVE_PROXY_ACTOR": "Serve: proxy",
    "HAProxyManager": "Serve: proxy",
    "haproxy": "HAProxy",
    "sh": "HAProxy",  # the guardian of the wrapper, and what it waits with
    "tail": "HAProxy",
    "sleep": "HAProxy",
    "serve_app.stack.supervisor": "supervisor",
    "perl": "ExifTool",
}
"""The beginning of a process's name to the part that it is of; others are replicas, or programs
that replicas run."""


def part_of(name: str) -> str:
    """Say which part of a stack a process of this name is."""
    return next((part for start, part in _PARTS.items() if name.startswith(start)), name)


def _added_up(sizes: Iterable[tuple[str, int]]) -> dict[str, int]:
    parts: dict[str, int] = {}
    for name, size_bytes in sizes:
        part = part_of(name)
        parts[part] = parts.get(part, 0) + size_bytes
    return dict(sorted(parts.items(), key=lambda item: -item[1]))


def _pss_bytes(process: psutil.Process) -> int:
    with suppress(psutil.Error, OSError):  # it has ended meanwhile
        return process.memory_full_info().pss
    return 0


def _wait_until_asleep(group: Group, sleepers: Iterable[str]) -> None:
    deadline_s = time.monotonic() + ASLEEP_TIMEOUT_S
    while awake := set(sleepers) & {name_of(process) for process in group()}:
        if time.monotonic() > deadline_s:
            raise BenchmarkError(
                f"{', '.join(sorted(awake))} did not fall asleep within {ASLEEP_TIMEOUT_S:g} s",
            )
        time.sleep(POLL_S)


def _photo() -> bytes:
    buffer = io.BytesIO()
    ImageGenerator(size=PHOTO_PX).image(0).save(buffer, format="JPEG", quality=90)
    return buffer.getvalue()


def _video() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "video.mp4"
        VideoGenerator(duration_s=2).write(path)
        return path.read_bytes()
