"""One machine's stack, run by its commands as a person would, for tests under load."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import psutil
import yaml
from PIL import Image

from serve_app.stack import RunningStack, Stack
from serve_app.stack.ports import free_ports
from tests.cluster.figures import say
from tests.cluster.load import Load, Report

PHOTO = Path("serve_app/cli/sample.jpg")
COMMAND_TIMEOUT_S = 400

CL_SERVE = (sys.executable, "-c", "from serve_app.cli import main; main()")

CLIENTS = 16
SMALL_PX = 160

Document = dict[str, Any]


def small_photo() -> bytes:
    """Make a photograph that is soon decoded, so that requests leave time for what is started."""
    image = Image.open(PHOTO)
    image.thumbnail((SMALL_PX, SMALL_PX))
    small = BytesIO()
    image.save(small, "jpeg")
    return small.getvalue()


def document(port: int) -> Document:
    """Make a small graph: two ingress replicas, and two nodes with one replica each."""

    def small(name: str) -> Document:
        return {"name": name, "ray_actor_options": {"num_cpus": 0.1}}

    return {
        "proxy_location": "HeadOnly",
        "http_options": {"host": "127.0.0.1", "port": port, "request_timeout_s": 3700},
        "logging_config": {"enable_access_log": False, "encoding": "JSON"},
        "applications": [
            {
                "name": "cl-ml-serve",
                "route_prefix": "/",
                "import_path": "serve_app.app:build",
                "args": {
                    "graph": {
                        "face_detection": {"needs": ["image"], "model": "blazeface_full_range"},
                        "hash": {"needs": ["upload"]},
                    },
                    "models": {"offline": True},
                },
                "deployments": [
                    {**small("ingress"), "num_replicas": 2},
                    small("hash"),
                    small("face_detection"),
                ],
            },
        ],
    }


@dataclass
class OneMachine:
    """A stack below ``folder``; ``path`` is put before the modules of its processes."""

    folder: Path
    path: Path
    document: Document = field(init=False)

    def __post_init__(self) -> None:
        """Choose a port and write the first file; nothing runs yet."""
        self.document = document(free_ports(1)[0])
        self.stack = Stack(self.folder / "state")

    @property
    def args(self) -> Document:
        """The application's ``args``, to change."""
        return self.document["applications"][0]["args"]

    def deployment(self, name: str) -> Document:
        """One of ``deployments``, to change."""
        entries = self.document["applications"][0]["deployments"]
        return next(entry for entry in entries if entry["name"] == name)

    @property
    def state(self) -> RunningStack:
        """Where it runs."""
        return self.stack.require_running()

    def file(self) -> Path:
        """Write the document to its file."""
        file = self.folder / "serve.yaml"
        file.write_text(yaml.safe_dump(self.document, sort_keys=False), encoding="utf-8")
        return file

    def run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run a command of ``cl-serve`` and print what it says."""
        command, *rest = map(str, arguments)
        done = subprocess.run(
            [*CL_SERVE, command, f"--state={self.stack.folder}", *rest],
            env={**os.environ, "PYTHONPATH": str(self.path), "COLUMNS": "100"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )
        say(f"$ cl-serve {' '.join(map(str, arguments))}\n{done.stdout}")
        return done

    def under_load(self, action: Callable[[], object], at_least: int = 500) -> Report:
        """Do something while clients ask both nodes; print and return what they got."""
        urls = [f"{self.state.url}/v1/{node}" for node in ("hash", "face_detection")]
        report = Load(urls, small_photo(), clients=CLIENTS).run_during(action, at_least)
        say(report)
        for failure in report.failures[:5]:
            say(f"  {failure.url} → {failure.status}: {failure.text[:300]}")
        return report

    def replicas(self) -> dict[str, set[str]]:
        """Ids of the running replicas by deployment."""
        with self.state.serve_api() as api:
            application = api.application(self.state.app_name)
        return {
            name: {r["replica_id"] for r in found["replicas"] if r["state"] == "RUNNING"}
            for name, found in application["deployments"].items()
        }

    def replica_pids(self, deployment: str) -> list[int]:
        """Process ids of a deployment's running replicas."""
        with self.state.serve_api() as api:
            found = api.application(self.state.app_name)["deployments"][deployment]
        return [r["pid"] for r in found["replicas"] if r["state"] == "RUNNING"]

    def process(self, name: str) -> psutil.Process:
        """Find a process of the stack by the beginning of its title or program name."""
        return next(
            process
            for process in self.state.mark.processes()
            if process.name() == name or " ".join(process.cmdline()).startswith(name)
        )
