"""``cl-serve node`` without a cluster: what is asked for, kept, shown and refused."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from deployments.runtime.errors import StackError
from serve_app.cli.node import node
from serve_app.stack import Stack
from serve_app.stack.node import Node
from serve_app.stack.ports import free_ports

SECRET = "0123456789abcdef"  # noqa: S105 - of no cluster


def run(state: Path, *words: str, stdin: str = "") -> Result:
    """Run a command of the group."""
    return CliRunner().invoke(node, [*words, "--state", str(state)], input=stdin)


@pytest.fixture
def head() -> str:
    """An address at which nothing listens."""
    return f"127.0.0.1:{free_ports(1)[0]}"


def test_no_secret(tmp_path: Path, head: str) -> None:
    """Without a terminal to ask at, the secret must come from a file or a pipe."""
    found = run(tmp_path, "join", head)
    assert isinstance(found.exception, StackError)
    assert "--token-file" in str(found.exception)


def test_piped_secret(tmp_path: Path, head: str) -> None:
    """A piped secret is kept for later, and never shown."""
    found = run(tmp_path, "join", head, stdin=f"{SECRET}\n")
    assert "nothing listens" in str(found.exception)
    assert SECRET == Node(tmp_path).token.read_text()
    assert SECRET not in found.output


def test_secret_from_file(tmp_path: Path, head: str) -> None:
    """A secret is read from a file; the next time the kept one is used."""
    file = tmp_path / "secret"
    file.write_text(f"{SECRET}\n")
    run(tmp_path / "state", "join", head, "--token-file", str(file))
    assert SECRET == Node(tmp_path / "state").token.read_text()
    assert "nothing listens" in str(run(tmp_path / "state", "join", head).exception)


def test_wrong_role(tmp_path: Path, head: str) -> None:
    """A role that can't be a label is refused before anything else."""
    found = run(tmp_path, "join", head, "--role", "a role", stdin=SECRET)
    assert found.exit_code == 2
    assert "letters, digits" in found.output


def test_leave(tmp_path: Path) -> None:
    """Leaving what was never joined says so."""
    assert "not a node" in run(tmp_path, "leave").output


def test_list_without_head(tmp_path: Path) -> None:
    """The list is the head's; elsewhere there is none."""
    assert isinstance(run(tmp_path, "list").exception, StackError)


def test_token_before_the_first_start(tmp_path: Path) -> None:
    """There is no secret before there is a cluster, unless one is made."""
    assert isinstance(run(tmp_path, "token").exception, StackError)
    shown = run(tmp_path, "token", "--new").output.strip()
    assert shown == Stack(tmp_path).token.read_text()
    assert shown == run(tmp_path, "token").output.strip()
    assert shown != run(tmp_path, "token", "--new").output.strip()
