"""``cl-serve logs``: what the replicas of a node have written, on whichever machine they run."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from deployments.runtime.errors import StackError
from serve_app.cli.stack import state_option
from serve_app.graph import deployment_names
from serve_app.redeploy import running_file
from serve_app.stack import Stack
from serve_app.stack.serve_api import ServeApi

FOLLOW_S = 1.0

_LEVELS = {"WARNING": "yellow", "ERROR": "red", "CRITICAL": "red"}


@dataclass(frozen=True, slots=True, order=True)
class Line:
    """One line of a log."""

    at_ns: int
    replica: str
    text: str
    """As it was written: a JSON object."""


@click.command()
@click.argument("node", required=False)
@click.option(
    "-n", "--lines", default=50, show_default=True, help="The last lines of each replica."
)
@click.option("-f", "--follow", is_flag=True, help="Go on with what is written from now on.")
@click.option("--request", "request_id", help="Only lines of the request with this X-Request-ID.")
@click.option(
    "--json", "as_json", is_flag=True, help="The lines as they are written: JSON objects."
)
@state_option
def logs(  # noqa: PLR0913 - one for each option
    *,
    node: str | None,
    lines: int,
    follow: bool,
    request_id: str | None,
    as_json: bool,
    state: Path | None,
) -> None:
    """Show the log of NODE, a node or deployment of the graph; of all of them by default.

    \b
    Examples:
        cl-serve logs face_detection
        cl-serve logs -f
        cl-serve logs --request 4f1c…      what became of one request, across all nodes
    """  # noqa: D301 - click's \\b keeps the lines as they are
    stack = Stack(state)
    running = stack.require_running()
    wanted = _deployments(stack, node)
    with running.serve_api() as api:
        last_ns = -1
        while True:
            found = sorted(set(_read(api, running.app_name, wanted, lines)))
            for line in found:
                if line.at_ns > last_ns and (request_id is None or request_id in line.text):
                    click.echo(line.text if as_json else _readable(line))
            last_ns = max([last_ns, *(line.at_ns for line in found)])
            if not follow:
                return
            time.sleep(FOLLOW_S)


def _deployments(stack: Stack, node: str | None) -> frozenset[str]:
    """Name the deployments that host a node, or all."""
    hosts = deployment_names(running_file(stack).args)
    wanted = frozenset(host for host, nodes in hosts.items() if node in (None, host, *nodes))
    if not wanted:
        nodes = sorted({name for members in hosts.values() for name in members})
        raise StackError(f"the graph has no node {node!r}; expected one of {', '.join(nodes)}")
    return wanted


def _read(api: ServeApi, app_name: str, wanted: frozenset[str], lines: int) -> Iterator[Line]:
    for name, deployment in api.application(app_name).get("deployments", {}).items():
        for replica in deployment["replicas"] if name in wanted else ():
            if not (replica["log_file_path"] and replica["node_id"]):
                continue  # it is still starting
            answer = api.get(
                "/api/v0/logs/file",
                node_id=replica["node_id"],
                filename=replica["log_file_path"].lstrip("/"),
                lines=str(lines),
            )
            for text in answer.text.splitlines():
                yield Line(_time_ns(text), f"{name}#{replica['replica_id']}", text)


def _time_ns(text: str) -> int:
    try:
        return int(json.loads(text)["timestamp_ns"])
    except (ValueError, KeyError, TypeError):
        return 0


def _readable(line: Line) -> str:
    try:
        record = json.loads(line.text)
        at = time.strftime("%H:%M:%S", time.localtime(line.at_ns / 1e9))
        level = click.style(f"{record['levelname']:8}", _LEVELS.get(record["levelname"]))
        return f"{at} {level} {line.replica}  {record['message']}"
    except (ValueError, KeyError, TypeError):
        return f"{line.replica}  {line.text}"
