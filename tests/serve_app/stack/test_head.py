"""The head as a node sees it: its address, whether it answers, and what keeps a node from it."""

import platform
import socket
from importlib.metadata import version

import pytest

from deployments.runtime.errors import StackError
from serve_app.stack.head import DEFAULT_PORT, Head
from serve_app.stack.ports import free_ports


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.0.0.1", Head("10.0.0.1", DEFAULT_PORT)),
        ("10.0.0.1:7000", Head("10.0.0.1", 7000)),
        ("localhost:7000", Head("127.0.0.1", 7000)),
    ],
)
def test_parse(text: str, expected: Head) -> None:
    """A name or an address, with a port or without one."""
    assert expected == Head.parse(text)


@pytest.mark.parametrize("text", ["", ":6379", "10.0.0.1:0", "10.0.0.1:70000", "http://10.0.0.1"])
def test_wrong_address(text: str) -> None:
    """What is no address is answered with an example of one."""
    with pytest.raises(StackError, match=r"such as 192\.168\.1\.10"):
        Head.parse(text)


def test_unknown_name() -> None:
    """A name that the network does not know is named."""
    with pytest.raises(StackError, match=r"no machine named 'nowhere\.invalid'"):
        Head.parse("nowhere.invalid")


def test_probe() -> None:
    """A port refuses before something listens there, and answers then."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        head = Head("127.0.0.1", server.getsockname()[1])
        assert head.probe() == "listens"
        head.require_listening()
    assert head.probe() == "refuses"


def test_nothing_listens() -> None:
    """The message of a refused connection names what to look at in the head's YAML."""
    head = Head("127.0.0.1", free_ports(1)[0])
    with pytest.raises(StackError, match=r"cluster: \{address: 127\.0\.0\.1\}"):
        head.require_listening()


def test_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is off, or out of reach, is told from one that runs no Ray."""

    def never(*_: object) -> socket.socket:
        raise TimeoutError

    monkeypatch.setattr(socket, "create_connection", never)
    with pytest.raises(StackError, match=r"Is the machine on.*firewall"):
        Head("10.0.0.1").require_listening()


def test_own_address() -> None:
    """The address is the one from which this machine speaks to the head, or one of its others."""
    head = Head("127.0.0.1")
    assert head.own_address() == "127.0.0.1"
    assert head.own_address("127.0.0.1") == "127.0.0.1"


def test_address_of_another_machine() -> None:
    """An address that this machine does not have is answered with those that it has."""
    with pytest.raises(StackError, match=r"192\.0\.2\.1 is not an address.*127\.0\.0\.1"):
        Head("127.0.0.1").own_address("192.0.2.1")


@pytest.mark.parametrize(
    ("ray", "python", "fits"),
    [
        (version("ray"), platform.python_version(), True),
        (version("ray"), ".".join(platform.python_version_tuple()[:2]) + ".99", True),
        (version("ray"), "3.2.1", False),
        ("1.0.0", platform.python_version(), False),
    ],
)
def test_versions(ray: str, python: str, fits: bool) -> None:  # noqa: FBT001 - a table's column
    """Ray must be the same, and Python up to its last number."""
    versions = {"ray_version": ray, "python_version": python}
    if fits:
        Head("10.0.0.1").require_equal_versions(versions)
        return
    with pytest.raises(StackError, match=f"Ray {ray} and Python {python}; this machine has"):
        Head("10.0.0.1").require_equal_versions(versions)
