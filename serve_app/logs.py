"""Log lines that say which node they are about, beside the request id that Serve adds.

Serve's JSON log has the request's id on every line of the process's ``ray.serve`` logger; it
takes it from the context, which ``HostedNode.in_thread`` carries into worker threads. Here the
node's name is added in the same way, and capabilities, which know no Serve, log through it too.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

logger = logging.getLogger("ray.serve")
"""The one logger of this package: Serve writes it to each replica's file."""

_node: ContextVar[str] = ContextVar("node")


@contextmanager
def of_node(name: str) -> Iterator[None]:
    """Mark the lines that are logged inside as the node's."""
    token = _node.set(name)
    try:
        yield
    finally:
        _node.reset(token)


def _add_node(record: logging.LogRecord) -> bool:
    name = _node.get(None)
    if name is not None and not hasattr(record, "node"):
        record.node = name
    return True


class _Forward(logging.Handler):
    """Hands records to Serve's logger."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logger.getEffectiveLevel():
            logger.handle(record)


def set_up_logs() -> None:
    """Add the node to the lines of this process, and those of capabilities to Serve's log.

    May be called again: nothing is added twice.
    """
    if _add_node in logger.filters:
        return
    logger.addFilter(_add_node)
    capabilities = logging.getLogger("deployments")
    capabilities.addHandler(_Forward())
    capabilities.propagate = False
