"""The tuned Ray runtime: what ``ray start`` is given, and why.

These variables can only be set where Ray is started; a Serve config can't set them. The figures
are requests per second through two hops with 16 clients on two cores.
"""

import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from deployments.runtime.errors import StackError
from serve_app.stack.processes import MARKER

OBJECT_STORE_BYTES = 256 * 2**20
"""Requests travel over gRPC, not through the object store, so Ray's 30 % of memory is too much."""

START_TIMEOUT_S = 120

TUNED_ENVIRONMENT = {
    # HAProxy in place of Serve's Python proxy: 98 → 345 requests/s.
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    # User code and router in one event loop, gRPC between replicas, no stderr copy of the log.
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    # A dead HAProxy is noticed within 3 s instead of 30.
    "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "1",
    "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "3",
    # HAProxy's threads; the default of 4 is more than a small machine has cores.
    "RAY_SERVE_HAPROXY_NBTHREAD": str(min(4, os.cpu_count() or 1)),
    "RAY_USAGE_STATS_ENABLED": "0",
    # Ray would otherwise ask for a metrics server that is not there.
    "RAY_DISABLE_IMPORT_WARNING": "1",
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


def start_head(stack_id: str, ports: RayPorts, folder: Path) -> None:
    """Start a head node of this machine, all of it on loopback; returns when Ray is up.

    Args:
        stack_id: what every process of it carries in its environment.
        ports: what it listens on.
        folder: where Ray keeps sockets and logs; short, since socket paths are limited.

    Raises:
        StackError: ``ray start`` failed; the message holds what it printed.

    """
    environment = {
        **os.environ,
        **TUNED_ENVIRONMENT,
        MARKER: stack_id,
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(ports.haproxy_metrics),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(ports.haproxy_stats),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy" / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "haproxy" / "admin.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder / "haproxy"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "haproxy" / "server-state"),
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
