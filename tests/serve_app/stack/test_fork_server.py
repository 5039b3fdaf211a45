"""Workers that are forked: what they are given, whom they share, and what happens without."""

import contextlib
import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from serve_app.stack import launch_worker
from serve_app.stack.fork_server import PRELOADED, serve

WORKER = """
import json, os, sys
from pathlib import Path
print(json.dumps({
    "argv": sys.argv,
    "name": __name__,
    "colour": os.environ.get("COLOUR"),
    "folder": os.getcwd(),
    "parent": os.getppid(),
    "group": os.getpgrp(),
    "loaded": sorted(sys.modules),
    "threads": len(os.listdir("/proc/self/task")),
    "oom_score_adj": Path("/proc/self/oom_score_adj").read_text(),
    "id": "ray" in sys.modules and sys.modules["ray"].ObjectRef.from_random().hex(),
}))
"""
"""Says what it was given."""

Launch = Callable[..., dict[str, Any]]


@pytest.fixture
def worker(tmp_path: Path) -> Path:
    """Write the program that the workers are to run."""
    path = tmp_path / "worker.py"
    path.write_text(WORKER)
    return path


@pytest.fixture
def launch(worker: Path, tmp_path: Path) -> Iterator[Launch]:
    """Give a function that launches a worker as a raylet does, and waits until it has ended."""
    servers: set[int] = set()

    def run(*arguments: str, context: str = "{}", **environment: str) -> dict[str, Any]:
        done = subprocess.run(
            [
                *(sys.executable, launch_worker.__file__, str(worker), *arguments),
                *("--language=PYTHON", f"--serialized-runtime-env-context={context}"),
            ],
            env={
                **os.environ,
                "CL_SERVE_FORK_SERVER": str(tmp_path / "fork-server.sock"),
                **environment,
            },
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        servers.add(told["parent"])
        return told

    yield run
    for pid in servers:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_worker(launch: Launch, worker: Path, tmp_path: Path) -> None:
    """A worker has its own arguments, environment and folder, and everything imported."""
    told = launch("--number=1", COLOUR="red")
    assert [str(worker), "--number=1"] == told["argv"]
    assert "__main__" == told["name"]
    assert "red" == told["colour"]
    assert str(tmp_path) == told["folder"]
    assert set(PRELOADED) <= set(told["loaded"])
    assert Path("/proc/self/oom_score_adj").read_text() == told["oom_score_adj"]
    assert os.getpgrp() == told["group"] != os.getpgid(told["parent"])


def test_functions(worker: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The two programs' functions do the same when they are called from others."""
    told = tmp_path / "told.json"
    worker.write_text(WORKER.replace("}))", f"}}), file=open({str(told)!r}, 'w'))"))
    arguments = [str(worker), "--language=PYTHON", "--serialized-runtime-env-context={}"]
    monkeypatch.setattr(sys, "argv", ["launch_worker.py", *arguments])
    path = str(tmp_path / "fork-server.sock")
    monkeypatch.setenv("CL_SERVE_FORK_SERVER", path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        server = multiprocessing.get_context("spawn").Process(target=serve, args=(listener,))
        server.start()
    launch_worker.main()
    deadline_s = time.monotonic() + 30
    while not (told.exists() and told.read_text()) and time.monotonic() < deadline_s:
        time.sleep(0.05)
    server.terminate()
    server.join()
    assert server.pid == json.loads(told.read_text())["parent"]


def test_forks_are_safe(launch: Launch) -> None:
    """A worker has one thread, and none of the project's modules: those may change meanwhile."""
    told = launch()
    assert 1 == told["threads"]
    ours = [name for name in told["loaded"] if name.split(".")[0] in ("serve_app", "deployments")]
    assert [] == ours


def test_one_server(launch: Launch) -> None:
    """Workers that are launched at once are forked from one server, started by the first."""
    with ThreadPoolExecutor(4) as pool:
        told = list(pool.map(lambda number: launch(COLOUR=str(number)), range(4)))
    assert ["0", "1", "2", "3"] == [worker["colour"] for worker in told]
    assert 1 == len({worker["parent"] for worker in told})
    assert 4 == len({worker["id"] for worker in told})  # by chance they never are the same


def test_dead_server(launch: Launch) -> None:
    """A server that has died is started again by the next worker."""
    first = launch()["parent"]
    server = psutil.Process(first)
    server.kill()
    psutil.wait_procs([server], timeout=10)
    assert first != launch()["parent"]


def test_other_environment(launch: Launch) -> None:
    """A worker of a runtime environment is not forked, as its imports may differ."""
    told = launch(context=json.dumps({"env_vars": {"COLOUR": "blue"}}), COLOUR="red")
    assert "blue" == told["colour"]
    assert "ray" not in told["loaded"]
    assert "ray.serve" in launch()["loaded"]


def test_used_ids() -> None:
    """A server refuses to fork workers that would take each other's ids for their own."""
    code = "import ray; ray.ObjectRef.from_random()\nfrom serve_app.stack import fork_server as s\n"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}s.preload()"], capture_output=True, text=True, check=False
    )
    assert "the same random ids" in done.stderr


def test_broken_server(worker: Path, tmp_path: Path) -> None:
    """Where no server can be started, the worker is started as Ray does, and a log says why."""
    path = tmp_path / "fork-server.sock"
    folder = tmp_path / "broken"
    folder.mkdir()
    launcher = folder / "launch_worker.py"
    launcher.write_text(Path(launch_worker.__file__).read_text())
    (folder / "fork_server.py").write_text("raise SystemExit('no memory here')")
    worker.with_name("setup_worker.py").write_text(WORKER)
    done = subprocess.run(
        [sys.executable, str(launcher), str(worker), "--number=1"],
        env={**os.environ, "CL_SERVE_FORK_SERVER": str(path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "see fork-server.log" in done.stderr
    assert "no memory here\n" == path.with_suffix(".log").read_text()
    setup = str(worker.with_name("setup_worker.py"))
    assert [setup, str(worker), "--number=1"] == json.loads(done.stdout)["argv"]
