"""A free TCP port of this machine."""

import socket


def free_port() -> int:
    """Return a loopback port that nobody listens on now."""
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return opened.getsockname()[1]
