"""A node's state, secret and processes, without a cluster; tests/cluster has one."""

import json
import os
import socket
import stat
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from deployments.runtime.errors import StackError
from serve_app.stack.head import Head
from serve_app.stack.node import JoinedNode, Node
from serve_app.stack.ports import free_ports
from serve_app.stack.processes import MARKER
from serve_app.stack.ray_runtime import choose_ports


@pytest.fixture
def node(tmp_path: Path) -> Node:
    """A node with a secret, that has not joined."""
    node = Node(tmp_path / "state")
    node.keep_token("0123456789abcdef")
    return node


@pytest.fixture
def joined(node: Node, tmp_path: Path) -> JoinedNode:
    """What a node knows that has joined a head which is gone."""
    folder = tmp_path / "ray"
    folder.mkdir()
    state = JoinedNode(
        stack_id=uuid.uuid4().hex,
        folder=str(folder),
        head=str(Head("127.0.0.1", free_ports(1)[0])),
        address="127.0.0.1",
        role="pi",
        ports=asdict(choose_ports()),
        token=str(node.token),
    )
    (node.folder / "node.json").write_text(json.dumps(asdict(state)))
    return state


@pytest.fixture
def replica(joined: JoinedNode) -> Iterator[subprocess.Popen[bytes]]:
    """A process of that node, with the title of a replica."""
    process = subprocess.Popen(
        ["bash", "-c", "exec -a 'ray::ServeReplica:cl-ml-serve:faces' sleep 60"],  # noqa: S607 - any
        env={**os.environ, MARKER: joined.stack_id},
    )
    yield process
    process.kill()
    process.wait()


def test_secret_is_kept_private(node: Node) -> None:
    """Only this user can read the secret, also when it replaces another one."""
    node.token.chmod(0o644)
    node.keep_token("fedcba9876543210")
    assert node.token.read_text() == "fedcba9876543210"
    assert stat.S_IMODE(node.token.stat().st_mode) == 0o600


@pytest.mark.parametrize("secret", ["", "two words", "--flag"])
def test_no_secret(node: Node, secret: str) -> None:
    """What can't be a secret is refused, and is not repeated."""
    with pytest.raises(StackError, match="this is no secret"):
        node.keep_token(secret)
    assert node.token.read_text() == "0123456789abcdef"


def test_head_that_does_not_listen(node: Node) -> None:
    """A head that is not there is found before anything is started or written."""
    steps: list[str] = []
    head = Head("127.0.0.1", free_ports(1)[0])
    with pytest.raises(StackError, match="nothing listens"):
        node.join(head, "pi", None, steps.append)
    assert [f"Looking for {head}"] == steps
    assert node.state() is None


def test_not_a_node(node: Node) -> None:
    """A machine that never joined is no node, and leaving does nothing."""
    assert node.running() is None
    assert node.leave(print) == 0
    assert not node.is_wanted()
    with pytest.raises(StackError, match="not part of a cluster"):
        node.start_supervisor()


def test_after_a_power_cut(node: Node, joined: JoinedNode) -> None:
    """A state file without processes is recognised as stale."""
    assert joined == node.state()
    assert node.running() is None
    assert node.state() is None


def test_replicas(joined: JoinedNode, replica: subprocess.Popen[bytes], node: Node) -> None:
    """What runs on a node is read off its processes."""
    assert replica.poll() is None
    assert joined == node.running()
    assert {"faces": 1} == node.wait_for_replicas().replicas()


def test_leaving_without_a_head(
    node: Node, joined: JoinedNode, replica: subprocess.Popen[bytes]
) -> None:
    """Without a head there is nobody to take over; the node ends all the same, and says why."""
    steps: list[str] = []
    assert node.leave(steps.append) == 1
    assert replica.poll() is not None
    assert any(f"nothing listens at {joined.head}" in step for step in steps)
    assert node.state() is None
    assert not Path(joined.folder).exists()


def test_lost(node: Node, joined: JoinedNode) -> None:
    """A head that refuses is waited for; one that refused and listens again knows nobody."""
    assert joined == node.state()
    assert not node.is_lost()
    head = Head.parse(joined.head)
    with socket.create_server((head.host, head.port)):
        assert node.is_lost()


def test_restart_waits_for_the_head(
    node: Node, joined: JoinedNode, replica: subprocess.Popen[bytes]
) -> None:
    """As long as there is no head, what runs goes on."""
    assert joined == node.state()
    with pytest.raises(StackError, match="nothing listens"):
        node.restart(print)
    assert replica.poll() is None
