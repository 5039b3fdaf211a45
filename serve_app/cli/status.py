"""``cl-serve status``: what runs, how it does, and whether its clients are answered."""

import json
from dataclasses import asdict
from pathlib import Path

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from serve_app.cli.stack import state_option
from serve_app.stack import Stack
from serve_app.status import Status, read_status

_GOOD = ("healthy", "idle", "ready", "alive")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="For programs: everything as one object.")
@state_option
@click.pass_context
def status(context: click.Context, *, as_json: bool, state: Path | None) -> None:
    """Show what runs: deployments, nodes with live figures, machines.

    The exit code is 1 when clients are not answered or a deployment is not healthy. Figures count
    from the start of the replicas that run now, and are renewed every 10 seconds.
    """
    found = read_status(Stack(state))
    if as_json:
        click.echo(json.dumps(asdict(found), indent=2))
    else:
        _show(found, Console())
    unwell = any(d.status not in _GOOD for d in found.deployments.values())
    context.exit(int(bool(found.problem) or unwell))


def _show(found: Status, console: Console) -> None:
    if found.problem:
        console.print(f"[bold red]Not serving:[/] {escape(found.problem)}", soft_wrap=True)
    else:
        console.print(f"[bold green]Serving[/] at {found.url}")
    console.print(f"Configuration {found.revision}: {escape(found.config)}", soft_wrap=True)
    if found.deploying:
        console.print("A deploy is under way. If it broke off: cl-serve rollback")
    console.print(_deployments(found), _nodes(found), sep="")
    if len(found.machines) > 1 or any(machine.state != "alive" for machine in found.machines):
        console.print(_machines(found))
    for name, deployment in found.deployments.items():
        if deployment.message:
            console.print(f"{name}: {escape(deployment.message)}", soft_wrap=True)


def _deployments(found: Status) -> Table:
    table = _table("Deployment", "State", "Replicas", "Memory", "Nodes")
    for name, deployment in found.deployments.items():
        table.add_row(
            name,
            _state(deployment.status),
            f"{deployment.replicas} of {deployment.wanted}",
            f"{deployment.memory_bytes / 1e6:.0f} MB" if deployment.memory_bytes else "–",
            ", ".join(deployment.nodes),
        )
    return table


def _nodes(found: Status) -> Table:
    table = _table("Node", "State", "Requests", "Failed", "p50", "p95", "Batch", "")
    for name, node in found.nodes.items():
        table.add_row(
            name,
            _state(node.state),
            f"{node.requests:,}",
            f"[red]{node.failed:,}[/]" if node.failed else "0",
            _number(node.p50_ms, " ms"),
            _number(node.p95_ms, " ms"),
            _number(node.mean_batch),
            escape(node.detail),
        )
    return table


def _machines(found: Status) -> Table:
    table = _table("Machine", "Address", "Role", "State", "Replicas")
    for machine in found.machines:
        replicas = ", ".join(f"{name} {count}" for name, count in sorted(machine.replicas.items()))
        table.add_row(machine.name, machine.address, machine.role, _state(machine.state), replicas)
    return table


def _table(*titles: str) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for i, title in enumerate(titles):
        table.add_column(title, no_wrap=i < len(titles) - 1, overflow="fold")
    return table


def _state(word: str) -> str:
    return f"[{'green' if word in _GOOD else 'yellow'}]{word.replace('_', ' ')}[/]"


def _number(value: float | None, unit: str = "") -> str:
    return "–" if value is None else f"{value:.3g}{unit}"
