"""``cl-serve systemd``: unit files that start the graph, or a node of it, with the machine.

They are printed and not installed: what runs as root is for the operator to read first. A line
whose reason is not obvious carries it, since a unit is read by people who did not write it.
"""

import os
import pwd
import re
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from serve_app.cli.stack import state_option
from serve_app.config import load_file
from serve_app.settings import config_folder

HEAD_UNIT = "cl-ml-serve.service"
NODE_UNIT = "cl-ml-serve-node.service"

_UNIT = """\
# Made by `cl-serve systemd`. Save it as {path}, then:
#   {systemctl} daemon-reload
#   {systemctl} enable --now {name}
#   {journalctl} -u {name} -f
[Unit]
Description={description}
{order}
# It never gives up: a full disk, or a head that is away for an hour, is mended at last.
StartLimitIntervalSec=0

[Service]
Type=exec
{account}
ExecStart={start}
Restart=always
RestartSec=10
# SIGTERM goes to cl-serve alone, which ends Ray's processes in order; what is left is killed.
KillMode=mixed
TimeoutStopSec=90
# Ray replaces a replica that the kernel has ended for want of memory; the others go on meanwhile.
OOMPolicy=continue
{memory}
# So that a shell answers while every core computes.
Nice=5
# A socket for each connection, in HAProxy and between replicas; Ray asks for this many.
LimitNOFILE=65536
# Each of Ray's processes has dozens of threads; systemd's limit is about 4,900 on a small machine.
TasksMax=infinity

{sandbox}
# Not PrivateTmp: Ray's sockets and logs lie in /tmp/cl-serve-*, where `cl-serve status`, `logs`
# and `down` in a shell look for them. Where the system removes old files from /tmp, keep these:
#   echo 'x /tmp/cl-serve-*' | sudo tee /etc/tmpfiles.d/cl-ml-serve.conf
# Not PrivateDevices, not MemoryDenyWriteExecute: GPUs and their compilers need what they forbid.

[Install]
WantedBy={wanted_by}
"""

_NETWORK = """\
Wants=network-online.target
After=network-online.target"""

_ACCOUNT = """\
User={user}
# Before the sandbox, which needs the folders; as the user, whose they are to be.
ExecStartPre=+{make_folders}"""

_SANDBOX = """\
NoNewPrivileges=yes
RestrictSUIDSGID=yes
RestrictRealtime=yes
LockPersonality=yes
SystemCallArchitectures=native
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
# All is read-only but state, models and outputs, what the YAML allows, and Ray's folder in /tmp.
ProtectSystem=strict
ReadWritePaths={writable}"""

_USER_SANDBOX = """\
# More is for system units: a user's own manager can't make the rest of the machine read-only.
NoNewPrivileges=yes"""

_MEMORY_HINT = """\
# So that what runs beside it keeps its memory; Ray heeds it too, and ends a replica in time:
# MemoryMax=80%"""

_PLAIN = re.compile(r"[\w@%+=:,./~-]+", re.ASCII)
_MEMORY_FORM = re.compile(r"\d+(\.\d+)?[KMGT%]?|infinity")

_HOW = """

    \b
    cl-serve systemd {example} | sudo tee /etc/systemd/system/{unit}
    sudo systemctl daemon-reload
    sudo systemctl enable --now {unit}
    journalctl -u {unit} -f

    With --user-unit it is a unit of your own manager, which needs no root and protects less:

    \b
    cl-serve systemd {example} --user-unit > ~/.config/systemd/user/{unit}
    systemctl --user daemon-reload
    systemctl --user enable --now {unit}
    loginctl enable-linger
"""


@dataclass(frozen=True, slots=True)
class Target:
    """Whose service it is: the options that all units share."""

    account: pwd.struct_passwd
    user_unit: bool
    memory_max: str | None
    state: Path | None

    @property
    def folders(self) -> list[Path]:
        """Its folders for state and for models and outputs.

        systemd gives a service the account's home, and none of the XDG variables of this shell.
        """
        home = Path(self.account.pw_dir)
        state = self.state or home / ".local" / "state" / "cl-ml-serve"
        return [state.absolute(), home / ".cache" / "cl-ml-serve"]


def write_unit(
    name: str,
    description: str,
    arguments: Sequence[str],
    target: Target,
    writable: Sequence[Path] = (),
) -> str:
    """Write a unit file.

    Args:
        name: of the unit, such as ``cl-ml-serve.service``.
        description: what ``systemctl status`` shows.
        arguments: of ``cl-serve``.
        target: whose service it is.
        writable: folders that it writes besides state, cache and /tmp.

    """
    program = str(Path(sys.executable).with_name("cl-serve"))
    state = ["--state", str(target.state.absolute())] if target.state else []
    facts = {
        "name": name,
        "description": description,
        "start": _command([program, *arguments, *state]),
        "memory": f"MemoryMax={target.memory_max}" if target.memory_max else _MEMORY_HINT,
    }
    if target.user_unit:
        return _UNIT.format(
            path=f"~/.config/systemd/user/{name}",
            systemctl="systemctl --user",
            journalctl="journalctl --user",
            order="# Your manager runs while you are logged in, or always: loginctl enable-linger",
            account="# As the user whose manager starts it.",
            sandbox=_USER_SANDBOX,
            wanted_by="default.target",
            **facts,
        )
    user = target.account.pw_name
    folders = [str(folder) for folder in dict.fromkeys([*target.folders, *writable])]
    make_folders = _command(["/usr/sbin/runuser", "-u", user, "--", "mkdir", "-p", *folders])
    writable_words = " ".join(_quoted(folder) for folder in [*folders, tempfile.gettempdir()])
    return _UNIT.format(
        path=f"/etc/systemd/system/{name}",
        systemctl="sudo systemctl",
        journalctl="sudo journalctl",
        order=_NETWORK,
        account=_ACCOUNT.format(user=user, make_folders=make_folders),
        sandbox=_SANDBOX.format(writable=writable_words),
        wanted_by="multi-user.target",
        **facts,
    )


def _options(command: Callable[..., None]) -> Callable[..., None]:
    """Add what both units are asked for; ``target`` is made of it."""
    for option in reversed(
        [
            click.option(
                "--user",
                callback=_account,
                metavar="NAME",
                help="The account that it runs as; by default yours. With one of its own, the "
                "service reaches nothing of yours.",
            ),
            click.option(
                "--user-unit",
                is_flag=True,
                is_eager=True,  # --user looks at it
                help="For your own service manager (systemctl --user) instead of the system's.",
            ),
            click.option(
                "--memory-max",
                callback=_memory,
                metavar="SIZE",
                help="The most memory that it may have, such as 6G or 80%.",
            ),
            state_option,
            _print_option,
        ]
    ):
        command = option(command)
    return command


def _account(ctx: click.Context, param: click.Parameter, name: str | None) -> pwd.struct_passwd:
    """Look the account up; the unit needs its home."""
    if name is not None and ctx.params.get("user_unit"):
        raise click.BadParameter("a unit of your own manager runs as you", ctx, param)
    try:
        return pwd.getpwnam(name) if name else pwd.getpwuid(os.getuid())
    except KeyError:
        raise click.BadParameter(
            f"there is no account {name!r} on this machine; make one: sudo adduser --system "
            f"--group --home /var/lib/{name} {name}",
            ctx,
            param,
        ) from None


def _memory(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    if value is not None and not _MEMORY_FORM.fullmatch(value):
        raise click.BadParameter(f"expected a size such as 6G or 80%, got {value!r}", ctx, param)
    return value


_print_option = click.option(
    "--print",
    "printed",
    is_flag=True,
    default=True,
    expose_value=False,
    help="Print the unit; this is all that is ever done.",
)


@click.group(invoke_without_command=True)
@click.option("--print", "printed", is_flag=True, help="Print the head's unit with its defaults.")
@click.pass_context
def systemd(ctx: click.Context, printed: bool) -> None:  # noqa: FBT001 - click's flag
    """Print a systemd unit that starts the graph with the machine, and again when it ends.

    Nothing is written or started; the help of each command has the lines that install its unit.
    """
    if ctx.invoked_subcommand is None:
        if printed:
            with head.make_context("head", [], parent=ctx) as defaults:
                head.invoke(defaults)
        else:
            click.echo(ctx.get_help())


@systemd.command(
    help="Print the unit of the machine that runs `cl-serve up`."
    + _HOW.format(example="head --config serve.yaml", unit=HEAD_UNIT)
)
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, resolve_path=True, path_type=Path),
    help="The YAML file of the graph; by default config/serve.yaml.",
)
@_options
def head(config: Path | None, **options: Any) -> None:  # noqa: ANN401 - the shared ones
    """Print the unit of the head."""
    path = config or config_folder() / "serve.yaml"
    args = load_file(path).args
    chosen = [args.models.cache, args.outputs.folder, *args.files.writable_folders]
    arguments = ["up", "--foreground", "--last", "--config", str(path)]
    writable = [Path(folder) for folder in chosen if folder]
    target = _target(options)
    click.echo(
        write_unit(HEAD_UNIT, "cl-ml-serve: the graph", arguments, target, writable), nl=False
    )


@systemd.command(
    help="Print the unit of a machine that joins the cluster at ADDRESS.\n\n    Without "
    "--token-file, it takes the secret that an earlier `cl-serve node join` of the same account "
    "has kept." + _HOW.format(example="node 192.168.1.10 --role pi", unit=NODE_UNIT)
)
@click.argument("address")
@click.option("--role", metavar="NAME", help="What `cl-serve node join` is given as its role.")
@click.option(
    "--token-file",
    type=click.Path(exists=True, dir_okay=False, resolve_path=True, path_type=Path),
    help="File with the cluster's secret; the account must be able to read it.",
)
@_options
def node(address: str, role: str | None, token_file: Path | None, **options: Any) -> None:  # noqa: ANN401 - the shared ones
    """Print the unit of a node."""
    arguments = ["node", "join", address, *(["--role", role] if role else []), "--foreground"]
    if token_file is not None:
        arguments += ["--token-file", str(token_file)]
    target = _target(options)
    click.echo(write_unit(NODE_UNIT, "cl-ml-serve: a node", arguments, target), nl=False)


def _target(options: dict[str, Any]) -> Target:
    return Target(options["user"], options["user_unit"], options["memory_max"], options["state"])


def _command(words: Sequence[str]) -> str:
    """Write a command line for ``ExecStart``, where a dollar sign begins a variable."""
    return " ".join(_quoted(word).replace("$", "$$") for word in words)


def _quoted(word: object) -> str:
    """Write one word of a unit file, where a per cent sign begins a specifier."""
    text = str(word).replace("%", "%%")
    if _PLAIN.fullmatch(text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
