"""The process that Ray's workers are forked from; see ``launch_worker.py``.

It imports what every worker needs and what starts no thread, as threads do not survive a fork. The
project's own code and that of capabilities is left to the workers, so that a redeploy runs what is
installed then; hence this file is run by its path, without the package around it.
"""

import contextlib
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ray.actor
from ray._private.runtime_env.context import RuntimeEnvContext
from ray._private.workers.setup_worker import parser
from ray.core.generated.common_pb2 import (
    Language,  # pyright: ignore[reportAttributeAccessIssue] - generated code
)

PRELOADED = (
    "ray.serve._private.controller",
    "ray.serve._private.haproxy",
    "ray.serve._private.proxy",
    "ray.serve._private.replica",
    "av",
    "fastapi",
    "PIL.Image",
    "uvicorn",
)
"""Not ONNX Runtime, which starts a thread when it is imported."""


def serve(listener: socket.socket) -> None:
    """Fork a worker for each connection; returns in a worker, when that has ended.

    Raises:
        RuntimeError: what was imported has made forks unsafe.

    """
    preload()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for workers; Ray watches them
    while True:
        connection, _ = listener.accept()
        with connection:
            _, files, _, _ = socket.recv_fds(connection, 1, 3)
            with connection.makefile("rb") as sent:
                request = json.load(sent)
            if os.fork() == 0:
                listener.close()
                become(request, files, connection)
                return
        for file in files:
            os.close(file)


def preload() -> None:
    """Import everything, and leave Ray's source of random ids unused.

    Once used it would give the same ids to every fork. Actors that are defined in a module ask it
    for an id when they are imported, so they are given others.

    Raises:
        RuntimeError: it has been used nevertheless.

    """
    actor: Any = ray.actor
    by_ray = actor.ActorClassID
    actor.ActorClassID = SimpleNamespace(from_random=lambda: by_ray(os.urandom(by_ray.size())))
    for name in PRELOADED:
        importlib.import_module(name)
    actor.ActorClassID = by_ray
    if id_of_fork() == id_of_fork():
        raise RuntimeError("forks would get the same random ids from Ray")
    gc.collect()
    gc.freeze()  # or the first collection in each worker would write to every object


def id_of_fork() -> bytes:
    """Return the first random id that a fork of this process gets."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(writer, ray.ObjectRef.from_random().binary())
        os._exit(0)
    os.close(writer)
    os.waitpid(pid, 0)
    answer = os.read(reader, ray.ObjectRef.size())
    os.close(reader)
    return answer


def become(request: dict[str, Any], files: list[int], connection: socket.socket) -> None:
    """Be the worker that was asked for; returns when it has ended."""
    os.setpgid(0, request["group"])  # Ray ends a worker with its group
    with connection:
        connection.sendall(b"\n")
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    with contextlib.suppress(PermissionError):  # a lower one than this process's takes root
        Path("/proc/self/oom_score_adj").write_text(request["oom_score_adj"], encoding="ascii")
    args, rest = parser.parse_known_args(request["arguments"])
    context = RuntimeEnvContext.deserialize(args.serialized_runtime_env_context or "{}")
    if vars(context) != vars(RuntimeEnvContext()):  # another environment: other imports
        context.exec_worker(rest, Language.Value(args.language))
    sys.argv = rest
    runpy.run_path(rest[0], run_name="__main__")


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
