"""Free TCP ports of this machine that an outgoing connection does not take meanwhile."""

import random
import socket
from contextlib import ExitStack
from pathlib import Path

_FIRST_PORT = 20_000
_OUTGOING_PORTS = Path("/proc/sys/net/ipv4/ip_local_port_range")
_FIRST_OUTGOING_PORT = 32_768
"""Linux's default, where the file can't be read."""


def free_ports(count: int) -> list[int]:
    """Pick different ports that nobody uses now.

    They lie below the range from which the system takes the ports of outgoing connections: one
    of those could be given to any connection between the choice and the start of a server.
    """
    try:
        end = int(_OUTGOING_PORTS.read_text(encoding="ascii").split()[0])
    except OSError:
        end = _FIRST_OUTGOING_PORT
    ports: list[int] = []
    with ExitStack() as opened:
        for port in random.sample(range(_FIRST_PORT, max(end, _FIRST_PORT + 1000)), k=200):
            if len(ports) == count:
                break
            taken = opened.enter_context(socket.socket())
            try:
                taken.bind(("", port))  # every address: a wildcard listener is in the way as well
            except OSError:
                continue
            ports.append(port)
    return ports
