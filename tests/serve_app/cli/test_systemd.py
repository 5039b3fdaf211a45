"""``cl-serve systemd``: systemd accepts the units, and they say what the service needs."""

import configparser
import getpass
import os
import pwd
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from serve_app.cli.main import cli
from serve_app.settings import config_folder

CL_SERVE = str(Path(sys.executable).with_name("cl-serve"))
HEAD = ["head"]
NODE = ["node", "192.168.1.10", "--role", "pi"]


def printed(*arguments: str) -> str:
    """Run the command as a shell would; return what it prints."""
    done = CliRunner().invoke(cli, ["systemd", *arguments])
    assert done.exit_code == 0, done.output
    return done.stdout


def parsed(text: str) -> configparser.ConfigParser:
    """Read a unit; systemd's files are INI files whose keys have capitals."""
    unit = configparser.ConfigParser(interpolation=None, delimiters="=", comment_prefixes="#")
    unit.optionxform = str  # pyright: ignore[reportAttributeAccessIssue] - as its documentation says
    unit.read_string(text)
    return unit


@pytest.fixture
def odd_file(tmp_path: Path) -> Path:
    """Give a YAML file at a path with a space and signs that mean something in units."""
    folder = tmp_path / "my $HOME 100%"
    folder.mkdir()
    raw = yaml.safe_load((config_folder() / "serve.yaml").read_text(encoding="utf-8"))
    raw["applications"][0]["args"]["outputs"] = {"folder": "streams"}
    raw["applications"][0]["args"]["files"] = {"writable_folders": ["/srv/results"]}
    file = folder / "serve.yaml"
    file.write_text(yaml.safe_dump(raw), encoding="utf-8")
    return file


@pytest.fixture
def verify(tmp_path: Path) -> Callable[..., None]:
    """Give systemd's own check: no mistake, no unknown line, no program that is not there."""
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not on this machine (Debian: apt install systemd)")

    def check(text: str, manager: str = "--system") -> None:
        unit = tmp_path / "cl-ml-serve.service"
        unit.write_text(text, encoding="utf-8")
        done = subprocess.run(
            [program, manager, "--man=no", "verify", str(unit)],
            env={"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path), "PATH": os.defpath},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (0, "") == (done.returncode, done.stderr)

    return check


@pytest.mark.parametrize("arguments", [HEAD, NODE], ids=["head", "node"])
@pytest.mark.parametrize(
    ("options", "manager"),
    [
        ([], "--system"),
        (["--user", "daemon", "--memory-max", "80%"], "--system"),
        (["--user-unit", "--memory-max", "6G", "--state", "/var/lib/a b"], "--user"),
    ],
    ids=["system", "account", "user-unit"],
)
def test_systemd_accepts_it(
    verify: Callable[..., None], arguments: list[str], options: list[str], manager: str
) -> None:
    """The units of head and node are valid, for the system's manager and for one's own."""
    verify(printed(*arguments, *options), manager)


def test_systemd_accepts_odd_paths(verify: Callable[..., None], odd_file: Path) -> None:
    """A path with a space, a dollar and a per cent sign is no mistake to systemd."""
    verify(printed("head", "--config", str(odd_file)))


@pytest.mark.parametrize(
    ("arguments", "start"),
    [
        (HEAD, f"up --foreground --last --config {config_folder() / 'serve.yaml'}"),
        (["head", "--state", "/srv/state"], "--state /srv/state"),
        (NODE, "node join 192.168.1.10 --role pi --foreground"),
        (["node", "head.lan:6379"], "node join head.lan:6379 --foreground"),
        (["node", "10.0.0.1", "--token-file", __file__], f"--foreground --token-file {__file__}"),
    ],
)
def test_start(arguments: list[str], start: str) -> None:
    """This very cl-serve is started, in the foreground, with its configuration."""
    program, _, rest = parsed(printed(*arguments))["Service"]["ExecStart"].partition(" ")
    assert CL_SERVE == program
    assert rest.endswith(start)


@pytest.mark.parametrize("arguments", [HEAD, NODE], ids=["head", "node"])
def test_service(arguments: list[str]) -> None:
    """It comes back whenever it ends, waits for the network, and keeps /tmp in common."""
    unit = parsed(printed(*arguments))
    expected = {
        "Restart": "always",
        "KillMode": "mixed",
        "OOMPolicy": "continue",
        "NoNewPrivileges": "yes",
        "ProtectSystem": "strict",
        "User": getpass.getuser(),
    }
    service = unit["Service"]
    assert expected == {key: service[key] for key in expected}
    assert {"PrivateTmp", "MemoryMax", "PrivateDevices"}.isdisjoint(service)
    assert "network-online.target" == unit["Unit"]["After"] == unit["Unit"]["Wants"]
    assert "0" == unit["Unit"]["StartLimitIntervalSec"]
    assert "multi-user.target" == unit["Install"]["WantedBy"]


@pytest.mark.parametrize("arguments", [HEAD, NODE], ids=["head", "node"])
def test_cl_serve_takes_the_arguments(arguments: list[str]) -> None:
    """The command that the unit starts exists and knows each of its options."""
    words = shlex.split(parsed(printed(*arguments))["Service"]["ExecStart"])[1:]
    done = CliRunner().invoke(cli, [*words, "--help"])
    assert done.exit_code == 0, done.output
    assert all(word in done.output for word in words if word.startswith("--"))


def test_writable_folders(odd_file: Path) -> None:
    """What the YAML lets it write is made and writable, besides state, cache and /tmp; no more."""
    service = parsed(printed("head", "--user", "daemon", "--config", str(odd_file)))["Service"]
    home = pwd.getpwnam("daemon").pw_dir
    streams = str(odd_file.parent / "streams").replace("%", "%%")
    folders = [
        f"{home}/.local/state/cl-ml-serve",
        f"{home}/.cache/cl-ml-serve",
        f'"{streams}"',
        "/srv/results",
    ]
    assert " ".join([*folders, "/tmp"]) == service["ReadWritePaths"]  # noqa: S108 - Ray's folder
    made = " ".join(folders).replace("$", "$$")
    assert f"+/usr/sbin/runuser -u daemon -- mkdir -p {made}" == service["ExecStartPre"]


def test_account_and_memory() -> None:
    """A state folder, an account and a bound of memory end up where systemd looks for them."""
    options = ["--user", "daemon", "--memory-max", "6G", "--state", "/srv/state"]
    service = parsed(printed("node", "10.0.0.1", *options))["Service"]
    assert ("daemon", "6G") == (service["User"], service["MemoryMax"])
    assert service["ReadWritePaths"].startswith("/srv/state ")


def test_user_unit() -> None:
    """A unit of one's own manager has none of the lines that such a manager refuses."""
    text = printed("head", "--user-unit")
    unit = parsed(text)
    assert {"User", "ProtectSystem", "ExecStartPre"}.isdisjoint(unit["Service"])
    assert "default.target" == unit["Install"]["WantedBy"]
    assert "systemctl --user enable --now cl-ml-serve.service" in text


def test_print() -> None:
    """``--print`` says what is done anyway; without a command it prints the head's unit."""
    assert printed("head") == printed("--print") == printed("head", "--print")
    assert "Usage:" in printed()


@pytest.mark.parametrize(
    "command",
    [
        "| sudo tee /etc/systemd/system/{unit}",
        "sudo systemctl daemon-reload",
        "sudo systemctl enable --now {unit}",
        "journalctl -u {unit} -f",
    ],
)
def test_help_teaches(command: str) -> None:
    """The help has the lines that install the unit, whole."""
    for name, unit in (("head", "cl-ml-serve.service"), ("node", "cl-ml-serve-node.service")):
        assert command.format(unit=unit) in printed(name, "--help")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["head", "--user", "no-such-account"], "make one: sudo adduser --system"),
        (["head", "--user", "daemon", "--user-unit"], "a unit of your own manager runs as you"),
        (["head", "--user-unit", "--user", "daemon"], "a unit of your own manager runs as you"),
        (["head", "--memory-max", "much"], "expected a size such as 6G or 80%, got 'much'"),
        (["head", "--config", "/no/such.yaml"], "does not exist"),
        (["node"], "Missing argument 'ADDRESS'"),
    ],
)
def test_mistakes(arguments: list[str], message: str) -> None:
    """What can't become a unit that starts is refused with what to do."""
    done = CliRunner().invoke(cli, ["systemd", *arguments])
    assert 2 == done.exit_code
    assert message in " ".join(done.output.split())
