"""The head of a cluster as a node sees it: where it is, whether it answers, what it refuses."""

import platform
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Literal

import psutil

from deployments.runtime.errors import StackError

DEFAULT_PORT = 6379
"""Of ``cluster.port`` in the head's YAML."""

CONNECT_TIMEOUT_S = 3.0

Answer = Literal["listens", "refuses", "is silent"]


@dataclass(frozen=True, slots=True)
class Head:
    """Where a head's Ray listens."""

    host: str
    port: int = DEFAULT_PORT

    def __str__(self) -> str:
        """Write it as Ray wants it."""
        return f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> "Head":
        """Read ``ADDRESS`` or ``ADDRESS:PORT``. Raises ``StackError``."""
        found = re.fullmatch(r"(?P<host>[\w.-]+?)(:(?P<port>\d{1,5}))?", text, re.ASCII)
        port = int(found["port"] or DEFAULT_PORT) if found else 0
        if found is None or not 0 < port < 2**16:
            raise StackError(
                f"{text!r} is no address of a head; expected a name or an IPv4 address, such as "
                f"192.168.1.10 or 192.168.1.10:{DEFAULT_PORT}",
            )
        try:
            host = socket.gethostbyname(found["host"])
        except OSError as error:
            raise StackError(
                f"the network knows no machine named {found['host']!r} ({error}); use its address",
            ) from error
        return cls(host, port)

    def probe(self, timeout_s: float = CONNECT_TIMEOUT_S) -> Answer:
        """Say what becomes of a connection: refused means that the machine is on, Ray is not."""
        try:
            with socket.create_connection((self.host, self.port), timeout_s):
                return "listens"
        except ConnectionRefusedError:
            return "refuses"
        except OSError:
            return "is silent"

    def require_listening(self) -> None:
        """Check that a Ray could be there. Raises ``StackError``."""
        match self.probe():
            case "listens":
                return
            case "refuses":
                raise StackError(
                    f"nothing listens at {self}. On {self.host}: does `cl-serve up` run? Does its "
                    f"YAML say `cluster: {{address: {self.host}}}`? Without that, it listens on "
                    "loopback only. Another `cluster.port` goes behind the address, after a colon",
                )
            case "is silent":
                raise StackError(
                    f"{self} does not answer. Is the machine on, in the same network, and is port "
                    f"{self.port} open in its firewall?",
                )

    def own_address(self, wanted: str | None = None) -> str:
        """Return the address of this machine at which the head reaches it.

        Args:
            wanted: instead of the one from which this machine speaks to the head.

        Raises:
            StackError: ``wanted`` is not an address of this machine, or there is no way to the
                head.

        """
        if wanted is not None:
            mine = sorted(
                found.address
                for addresses in psutil.net_if_addrs().values()
                for found in addresses
                if found.family == socket.AF_INET
            )
            if wanted not in mine:
                raise StackError(
                    f"{wanted} is not an address of this machine; expected one of "
                    f"{', '.join(mine)}",
                )
            return wanted
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unsent:
            try:
                unsent.connect((self.host, self.port))  # picks the way; nothing is sent
            except OSError as error:
                raise StackError(f"there is no way to {self.host} from here: {error}") from error
            return unsent.getsockname()[0]

    def require_equal_versions(self, versions: Mapping[str, str]) -> None:
        """Check what the head runs against what this machine does; patches of Python may differ.

        Args:
            versions: ``ray_version`` and ``python_version`` of the head.

        Raises:
            StackError: a node would fail later, with a message that does not say why.

        """
        here = {"Ray": version("ray"), "Python": platform.python_version()}
        there = {"Ray": versions["ray_version"], "Python": versions["python_version"]}
        if here["Ray"] == there["Ray"] and _minor(here["Python"]) == _minor(there["Python"]):
            return
        raise StackError(
            "the machines of a cluster must run the same Ray, and the same Python up to its last "
            f"number. {self} has Ray {there['Ray']} and Python {there['Python']}; this machine has "
            f"Ray {here['Ray']} and Python {here['Python']}. Install the same cl-ml-serve on both",
        )


def _minor(python: str) -> list[str]:
    return python.split(".")[:2]
