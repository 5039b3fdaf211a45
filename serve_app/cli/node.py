"""``cl-serve node``: machines join a cluster, leave it, and are listed."""

import re
import sys
from pathlib import Path

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from deployments.runtime.errors import StackError
from serve_app.cli.stack import state_option
from serve_app.stack import Stack
from serve_app.stack.head import Head
from serve_app.stack.machines import machines_of
from serve_app.stack.node import JoinedNode, Node
from serve_app.stack.ray_runtime import is_loopback, write_token

_ROLE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
"""What Ray takes as the value of a label."""


def _checked_role(context: click.Context, parameter: click.Parameter, role: str) -> str:
    del context, parameter
    if not _ROLE.fullmatch(role):
        raise click.BadParameter("expected letters, digits, and dots or dashes between them")
    return role


@click.group()
def node() -> None:
    """Make this machine part of a cluster, or see who is.

    \b
    On the head, whose YAML has its own address in `cluster: {address: 192.168.1.10}`:
        cl-serve up --config serve.pi-cluster.yaml
        cl-serve node token                          shows the cluster's secret
    On each other machine:
        cl-serve node join 192.168.1.10 --role pi    asks for the secret
    """  # noqa: D301 - click's \b keeps the lines as they are


@node.command()
@click.argument("head", metavar="ADDRESS[:PORT]")
@click.option(
    "--role",
    default="x86",
    show_default=True,
    metavar="pi|gpu|x86|NAME",
    callback=_checked_role,
    help="What the YAML finds this machine by: label_selector: {role: NAME}.",
)
@click.option(
    "--token-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File with the cluster's secret; otherwise it is read from a pipe, or asked for.",
)
@click.option("--address", metavar="OWN-IP", help="Address of this machine, if it has several.")
@click.option("--foreground", is_flag=True, help="Stay, and keep the node alive; for systemd.")
@state_option
def join(  # noqa: PLR0913, PLR0917 - click's options
    head: str,
    role: str,
    token_file: Path | None,
    address: str | None,
    foreground: bool,  # noqa: FBT001 - click's flag
    state: Path | None,
) -> None:
    """Join the cluster whose head is at ADDRESS.

    Returns when the head knows this machine; what the head places here goes on in the background,
    and comes back by itself when this machine or the head was restarted, until
    `cl-serve node leave`. The secret is kept in the state folder, for this user alone.
    """
    console = Console()
    here = Node(state)
    running = here.running()
    if running is not None:
        if foreground:  # of the service's last run, which was killed
            here.leave(lambda _: None, drain=False)
        else:
            console.print(f"Already a node of {running.head}. To leave it: cl-serve node leave")
            return
    if Stack(state).running() is not None:
        raise StackError("this machine is a head; end it with `cl-serve down` before it joins")
    secret = _secret(here, token_file)
    if secret is not None:
        here.keep_token(secret)
    with console.status("Joining") as status:
        joined = here.join(Head.parse(head), role, address, lambda step: status.update(f"{step} …"))
    console.print(f"Joined {joined.head} as {joined.address}, role {role}.")
    if foreground:
        here.supervise_in_foreground(console.print)
        return
    here.start_supervisor()
    _show_replicas(here.wait_for_replicas(), console)


@node.command()
@click.option("--now", is_flag=True, help="Don't hand over first; requests in flight fail.")
@state_option
def leave(now: bool, state: Path | None) -> None:  # noqa: FBT001 - click's flag
    """Leave the cluster: others take over, requests in flight are answered, then all ends.

    Works when the head is gone, too.
    """
    console = Console()
    with console.status("Leaving") as status:
        ended = Node(state).leave(lambda step: status.update(f"{step} …"), drain=not now)
    console.print(f"Left ({ended} processes)." if ended else "This machine is not a node.")


@node.command("list")
@state_option
def list_nodes(state: Path | None) -> None:
    """List the machines of the cluster, on its head: role, state, and replicas there."""
    with Stack(state).require_running().serve_api() as api:
        machines = machines_of(api)
    table = Table(box=SIMPLE_HEAD)
    for title in ("Machine", "Address", "Role", "State", "Replicas"):
        table.add_column(title, no_wrap=title != "Replicas")
    for machine in machines:
        replicas = ", ".join(f"{name} {count}" for name, count in sorted(machine.replicas.items()))
        colour = "green" if machine.state == "alive" else "red"
        table.add_row(
            machine.name,
            machine.address,
            machine.role,
            f"[{colour}]{machine.state}[/]",
            replicas,
        )
    Console().print(table)


@node.command()
@click.option("--new", is_flag=True, help="Make another one, for the next `cl-serve up`.")
@state_option
def token(new: bool, state: Path | None) -> None:  # noqa: FBT001 - click's flag
    """Show the secret that machines need to join the cluster of this head.

    Whoever has it can run any program on every machine of the cluster.
    """
    stack = Stack(state)
    running = stack.running()
    if new:
        if running is not None:
            raise StackError("the cluster runs with its secret; `cl-serve down` comes first")
        stack.folder.mkdir(parents=True, exist_ok=True)
        write_token(stack.token)
    if not stack.token.exists():
        raise StackError("this machine has no cluster yet; start one with `cl-serve up`")
    click.echo(stack.token.read_text(encoding="ascii"))
    where = "ADDRESS"
    if running is not None:
        where = running.ray_address
        if is_loopback(running.address):
            where = "ADDRESS"
            click.echo(
                "No other machine can join yet: the head listens on loopback. Put its own address "
                f"into {running.config}, `cluster: {{address: 192.168.1.10}}`, and start it again.",
                err=True,
            )
    if sys.stdout.isatty():
        click.echo(
            f"\nOn the other machine, `cl-serve node join {where}` asks for it. Keep it secret: "
            "whoever has it can run any program on every machine of the cluster.",
            err=True,
        )


def _secret(here: Node, token_file: Path | None) -> str | None:
    """Return the secret that was given, or None where the one of the last time is kept."""
    if token_file is not None:
        return token_file.read_text(encoding="utf-8").strip()
    if not sys.stdin.isatty() and (piped := sys.stdin.read().strip()):
        return piped
    if here.token.exists():
        return None
    if not sys.stdin.isatty():
        raise StackError(
            "the cluster's secret is needed: `cl-serve node token` on the head shows it; give it "
            "with --token-file, or through a pipe",
        )
    return click.prompt("The cluster's secret (`cl-serve node token` on the head)", hide_input=True)


def _show_replicas(joined: JoinedNode, console: Console) -> None:
    replicas = joined.replicas()
    if replicas:
        found = ", ".join(f"{name} ({count})" for name, count in sorted(replicas.items()))
        console.print(f"Runs here: {found}.")
    else:
        console.print("Nothing runs here yet; the head's YAML says what is placed where.")
