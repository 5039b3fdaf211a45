"""The example of a capability in a package of its own: installed, started, and reached every way.

It is built and installed as pip does it for a user, into a folder that only the processes of this
test have on their path. Nothing in this repository knows its name.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from deployments.runtime.models import ModelStore
from deployments.runtime.types import Media
from serve_app.stack import RunningStack, Stack
from serve_app.stack.ports import free_ports
from serve_app.stack.processes import listener_on

ROOT = Path(__file__).resolve().parents[2]
PLUGIN = ROOT / "examples" / "capability_plugin"
README = (PLUGIN / "README.md").read_text(encoding="utf-8")
NODE = "dominant_colours"
PROGRAMS = Path(sys.executable).parent

METRICS_TIMEOUT_S = 60
"""Ray's replicas hand their figures to the exporter every 10 s."""


@dataclass(frozen=True)
class Installed:
    """The installed example: a copy of its source, and the environment that finds it."""

    source: Path
    environment: dict[str, str]

    @property
    def stack(self) -> Stack:
        """The stack whose processes have the package."""
        return Stack(Path(self.environment["XDG_STATE_HOME"]) / "cl-ml-serve")

    def run(self, *command: str, cwd: Path | None = None, timeout_s: float = 120) -> str:
        """Run a program of the environment; return what it printed. It must succeed."""
        done = subprocess.run(
            [str(PROGRAMS / command[0]), *command[1:]],
            cwd=cwd or self.source,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}"
        return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Build and install the package, without the network."""
    folder = tmp_path_factory.mktemp("plugin")
    source, site = folder / "source", folder / "site"
    shutil.copytree(PLUGIN, source, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    environment = {
        **os.environ,
        "PATH": f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(site),
        "XDG_STATE_HOME": str(folder / "state"),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    installed = Installed(source, environment)
    offline = ["--no-index", "--no-deps", "--no-build-isolation"]
    installed.run("python", "-m", "pip", "install", *offline, "--target", str(site), str(source))
    return installed


@pytest.fixture(scope="module")
def running(installed: Installed, store: ModelStore) -> Iterator[RunningStack]:
    """Start the example's own file with the command that its README has."""
    del store  # installs the detector
    (port,) = free_ports(1)
    options = ["--config", "serve.yaml", "--port", str(port), "--offline"]
    try:
        installed.run("cl-serve", "up", *options, timeout_s=240)
        running = installed.stack.running()
        assert running is not None
        yield running
    finally:
        installed.run("cl-serve", "down")
    assert listener_on(port) is None


@pytest.fixture(scope="module")
def http(running: RunningStack) -> Iterator[httpx2.Client]:
    """Give an HTTP client of the stack."""
    with httpx2.Client(base_url=running.url, timeout=60) as client:
        yield client


@pytest.fixture
def folder(tmp_path: Path, photo: Callable[[str], Media]) -> Path:
    """Give a folder with the photo that the README's examples send."""
    (tmp_path / "photo.jpg").write_bytes(photo("astronaut").data)
    return tmp_path


def blocks(language: str) -> list[str]:
    """Give the README's blocks of code."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def curl_lines() -> list[str]:
    """Give the README's curl lines."""
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    return [line for line in lines if line.startswith("curl ")]


def test_own_tests(installed: Installed) -> None:
    """The package's own tests pass against the installed package, with warnings as errors."""
    loop_scope = "asyncio_default_fixture_loop_scope=function"  # of a plugin that it does not use
    options = ["-W", "error", "-p", "no:cacheprovider", "-o", loop_scope, "-o", "pythonpath="]
    assert " passed" in installed.run("python", "-m", "pytest", *options)


def test_check(installed: Installed) -> None:
    """``cl-serve check`` accepts the file and shows the node."""
    assert NODE in installed.run("cl-serve", "check", "serve.yaml")


def test_readme_has_the_node_of_the_file() -> None:
    """The lines that the README has people put into their file are those of serve.yaml."""
    file = (PLUGIN / "serve.yaml").read_text(encoding="utf-8")
    without_comments = re.sub(r" +#.*", "", file)
    (block,) = blocks("yaml")
    assert block in without_comments


def test_descriptions(http: httpx2.Client) -> None:
    """The node is in the graph, with a host of its own, and among the capabilities."""
    nodes = {node["name"]: node for node in http.get("/v1/graph").json()["nodes"]}
    expected = {"capability": NODE, "needs": ["image"], "gives": "DominantColoursResult"}
    assert expected == {key: nodes[NODE][key] for key in expected}
    assert NODE == nodes[NODE]["host"]
    assert "ingress" == nodes["hash"]["host"]
    offered = {c["name"]: c for c in http.get("/v1/capabilities").json()["capabilities"]}
    assert f"/v1/{NODE}" == offered[NODE]["route"]
    assert ["limit"] == list(offered[NODE]["params"]["properties"])


def test_openapi(http: httpx2.Client) -> None:
    """The route, its parameter and its result are in OpenAPI."""
    document = http.get("/openapi.json").json()
    route = document["paths"][f"/v1/{NODE}"]["post"]
    assert "limit" in [parameter["name"] for parameter in route["parameters"]]
    assert {"hex", "share"} == set(
        document["components"]["schemas"]["DominantColour"]["properties"]
    )


def test_ready(http: httpx2.Client) -> None:
    """The node passes its self-test."""
    assert "ready" == http.get("/readyz").json()["nodes"][NODE]["state"]


@pytest.mark.parametrize(("query", "count"), [("", 4), ("?limit=2", 2)], ids=["yaml", "request"])
def test_route(http: httpx2.Client, photo: Callable[[str], Media], query: str, count: int) -> None:
    """A real photo has as many colours as its ``user_config`` says, or the request."""
    answer = http.post(f"/v1/{NODE}{query}", content=photo("astronaut").data)
    assert 200 == answer.status_code
    colours = answer.json()["colours"]
    assert count == len(colours)
    assert all(re.fullmatch("#[0-9a-f]{6}", colour["hex"]) for colour in colours)
    assert pytest.approx(1.0) == sum(colour["share"] for colour in colours)


@pytest.mark.parametrize(
    ("query", "status", "kind"),
    [("?limit=0", 422, "invalid-parameter"), ("", 415, "unsupported-media")],
)
def test_problems(http: httpx2.Client, query: str, status: int, kind: str) -> None:
    """Its errors are problems like those of every other route."""
    answer = http.post(f"/v1/{NODE}{query}", content=b"no picture")
    assert status == answer.status_code
    assert answer.json()["type"].endswith(f":{kind}")


def test_beside_others(http: httpx2.Client, photo: Callable[[str], Media]) -> None:
    """One request gets its result along with those of built-in capabilities."""
    outputs = {"outputs": f"{NODE},face_detection,hash"}
    answer = http.post("/v1/analyze", params=outputs, content=photo("astronaut").data)
    assert 200 == answer.status_code
    assert {NODE, "face_detection", "hash"} == set(answer.json()["outputs"])


@pytest.mark.parametrize("line", curl_lines())
def test_readme_curl(running: RunningStack, folder: Path, line: str) -> None:
    """Every curl line of the README is answered."""
    command = line.replace("http://127.0.0.1:8000", running.url)
    shell = command.replace("curl ", "curl --silent --show-error --fail ", 1)
    done = subprocess.run(
        ["/bin/sh", "-c", shell], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert NODE in done.stdout or json.loads(done.stdout)["colours"]


@pytest.mark.parametrize("code", blocks("python"))
def test_readme_handles(
    installed: Installed, running: RunningStack, folder: Path, code: str
) -> None:
    """The README's Python prints the colours that it gets over a handle."""
    del running
    lines = installed.run("python", "-c", code, cwd=folder).splitlines()
    assert 3 == len([line for line in lines if re.fullmatch(r"#[0-9a-f]{6} \d+%", line)])


def test_metrics(running: RunningStack, http: httpx2.Client, photo: Callable[[str], Media]) -> None:
    """Requests of the node are counted under its name where Prometheus reads."""
    http.post(f"/v1/{NODE}", content=photo("astronaut").data).raise_for_status()
    counted = re.compile(rf'^\w+\{{[^}}]*node="{NODE}"[^}}]*\}} [1-9]', re.MULTILINE)
    deadline_s = time.monotonic() + METRICS_TIMEOUT_S
    text = ""
    while time.monotonic() < deadline_s and not counted.search(text):
        text = httpx2.get(running.metrics_url, timeout=10).text
        time.sleep(1)
    assert counted.search(text), "no metric has the label"
