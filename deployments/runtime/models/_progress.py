"""What a pull reports while it runs: plain data, so that any interface can show it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Stage = Literal["wait", "fetch", "download", "convert", "done"]


@dataclass(frozen=True, slots=True)
class PullProgress:
    """One report of a running pull.

    ``stage`` is ``wait`` (another process pulls the same model), ``fetch`` (a package client runs,
    which tells nothing of its bytes), ``download`` (``done_bytes`` of ``total_bytes``, the latter
    None when the server does not say), ``convert`` or ``done``. ``detail`` is one line for people.
    """

    name: str
    stage: Stage
    detail: str
    done_bytes: int = 0
    total_bytes: int | None = None


ProgressCallback = Callable[[PullProgress], None]


def ignore_progress(_: PullProgress) -> None:
    """Report to nobody."""
