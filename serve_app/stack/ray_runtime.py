"""The tuned Ray runtime of one machine: what ``ray start`` is given, and why.

These variables can only be set where Ray is started; a Serve config can't set them. The figures
are requests per second through two hops with 16 clients on two cores.
"""

import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from ipaddress import ip_address
from pathlib import Path

from deployments.runtime.errors import StackError
from serve_app.stack.haproxy import write_wrapper
from serve_app.stack.ports import free_ports
from serve_app.stack.processes import MARKER, Mark
from serve_app.stack.ray_folder import ray_temp

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
    # Each replica and router hands its counts over so often; ten times a second by default, which
    # is a hundredth of a core for each process that has nothing to do.
    "RAY_SERVE_METRICS_EXPORT_INTERVAL_MS": "2000",
    # What Ray's own processes do when nobody asks, 189 ms of CPU a second in place of 206 for the
    # whole stack (docs/decisions/0012-request-path.md): no statistics of event loops,
    # and looks at the machine as often as a person or Prometheus would want them, not ten times a
    # second. The watch over memory stays as it is.
    "RAY_event_stats": "0",
    "RAY_io_context_event_loop_lag_collection_interval_ms": "10000",
    "RAY_raylet_report_resources_period_milliseconds": "500",
    "RAY_local_fs_monitor_interval_ms": "5000",
    "RAY_DASHBOARD_AGENT_CHECK_PARENT_INTERVAL_S": "2",
    "REPORTER_UPDATE_INTERVAL_MS": "15000",
    "EVENT_AGENT_REPORT_INTERVAL_SECONDS": "5",
    "SCAN_EVENT_DIR_INTERVAL_SECONDS": "30",
    # A call between replicas carries the upload: gRPC's default of 4 MiB is less than a photo may
    # have. What may be sent is bounded at the ingress.
    "RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH": str(2**31 - 1),
    "RAY_USAGE_STATS_ENABLED": "0",
    # The throughput setting keeps 1,000 lines of a log back, which without an access log is days.
    "RAY_SERVE_REQUEST_PATH_LOG_BUFFER_SIZE": "1",
    # HAProxy drops an ending replica at once; Serve's 30 s are for proxies that look now and then.
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "5",
    # A replica that died before it answered: what a request asks has no side effects, so another
    # one is asked, where the request is small enough to be kept (HAProxy holds it in one buffer).
    "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response",
    "RAY_SERVE_HAPROXY_RETRIES": "2",
    "RAY_SERVE_HAPROXY_TUNE_BUFSIZE": str(512 * 2**10),
    # A connection to a machine that lost its network is given up when nothing was acknowledged for
    # so long, in place of 120 s; calls that it carried are tried on another machine then.
    "RAY_grpc_client_keepalive_timeout_ms": "5000",
    # For the same reason, in place of 5 s: HAProxy asks another door when one can't be connected.
    "RAY_SERVE_HAPROXY_TIMEOUT_CONNECT_S": "2",
    # Machines of a cluster may differ in Python's last number, as systems' and others' builds do.
    "RAY_DEFAULT_PYTHON_VERSION_MATCH_LEVEL": "minor",
}

LOOPBACK_ENVIRONMENT = {
    # Ray replaces a loopback address by one that other machines reach, and listens on all of
    # them, except where it takes itself for a Ray without clusters.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
}


@dataclass(frozen=True, slots=True)
class RayPorts:
    """Ports of one machine's Ray."""

    gcs: int
    dashboard: int
    agent_http: int
    metrics: int
    haproxy_metrics: int
    haproxy_stats: int


def choose_ports() -> RayPorts:
    """Pick ports that are free now, so that another Ray on the machine is not in the way."""
    return RayPorts(*free_ports(len(fields(RayPorts))))


def write_token(path: Path) -> None:
    """Write a new secret that Ray asks of whoever wants to join the cluster or submit code.

    Some of Ray's ports listen on every address of the machine; without the secret they refuse.
    """
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_text(secrets.token_hex(32), encoding="ascii")


def client_environment(token: Path, address: str) -> dict[str, str]:
    """What a Ray client of the cluster needs in its environment: the secret, and where Ray is."""
    return {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        **(LOOPBACK_ENVIRONMENT if is_loopback(address) else {}),
    }


def is_loopback(address: str) -> bool:
    """Whether an address is one that only this machine reaches."""
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


@dataclass(frozen=True, slots=True)
class Machine:
    """One machine of a cluster, as Ray is started on it.

    Attributes:
        mark: what its processes are known by; the folder, where Ray keeps sockets and logs, has a
            short path, since those of sockets are limited.
        address: the address of this machine at which the others reach it.
        ports: what it listens on.
        token: the file with the cluster's secret.
        labels: what ``label_selector`` in the YAML finds it by.

    """

    mark: Mark
    address: str
    ports: RayPorts
    token: Path
    labels: Mapping[str, str]


def start_head(machine: Machine) -> None:
    """Start the head of a cluster on this machine; returns when Ray is up.

    Raises:
        StackError: ``ray start`` failed; the message holds what it printed.

    """
    ports = machine.ports
    _start(
        machine,
        [
            "--head",
            f"--port={ports.gcs}",
            # The dashboard can do anything with the cluster; only this machine needs it.
            "--dashboard-host=127.0.0.1",
            f"--dashboard-port={ports.dashboard}",
            # 48 MB for starting machines in a cloud, which nobody asks for.
            "--no-monitor",
        ],
    )


def start_worker(machine: Machine, head: str) -> None:
    """Let this machine join the cluster whose head listens at ``head`` (``address:port``).

    Raises:
        StackError: ``ray start`` failed, for example as the head does not answer or the secret
            is not the cluster's; the message holds what it printed.

    """
    _start(machine, [f"--address={head}"])


def _start(machine: Machine, options: Sequence[str]) -> None:
    folder = machine.mark.folder
    ports = machine.ports
    environment = {
        **os.environ,
        **TUNED_ENVIRONMENT,
        **client_environment(machine.token, machine.address),
        MARKER: machine.mark.stack_id,
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(write_wrapper(folder)),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(ports.haproxy_metrics),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(ports.haproxy_stats),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "admin.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
        "CL_SERVE_FORK_SERVER": str(folder / "fork-server.sock"),
    }
    command = [
        sys.executable,
        "-m",
        "serve_app.stack.ray_start",
        "start",
        f"--node-ip-address={machine.address}",
        f"--node-name={socket.gethostname()}",
        f"--temp-dir={ray_temp(folder)}",
        f"--dashboard-agent-listen-port={ports.agent_http}",
        f"--metrics-export-port={ports.metrics}",
        f"--object-store-memory={OBJECT_STORE_BYTES}",
        f"--labels={','.join(f'{key}={value}' for key, value in machine.labels.items())}",
        # 45 MB for copying the logs of workers to a driver's terminal.
        "--include-log-monitor=false",
        "--disable-usage-stats",
        *options,
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
