"""What crosses the handle between the pipeline and its hosts: plain data, and nothing else."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from deployments.runtime.errors import ClServeError
from deployments.runtime.picture import DEFAULT_MAX_PIXELS
from deployments.runtime.types import Upload
from serve_app.graph import Segment

NodeState = Literal["ready", "idle", "not_installed", "broken"]
"""``idle``: no replica runs, by design; the next request starts one."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A node's failure as a value, so that the other results of a request survive it."""

    error: ClServeError


@dataclass(frozen=True, slots=True)
class SegmentCall:
    """What crosses the handle to a host: everything that it needs to run one segment."""

    segment: Segment
    upload: Upload | None
    imports: Mapping[str, Any]
    params: Mapping[str, Mapping[str, Any]]
    max_pixels: int = DEFAULT_MAX_PIXELS
    destination: str | None = None
    """Of a job's work: where in the file store a result of many files goes."""


@dataclass(frozen=True, slots=True)
class SegmentReply:
    """What comes back: exported results or failures, each node's milliseconds, and those of all.

    ``host_age_ms`` is how long the host had been up when it began: a call that had been on its way
    for longer has waited for the host to start.
    """

    results: dict[str, Any]
    elapsed_ms: dict[str, float]
    total_ms: float
    host_age_ms: float


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a node of a request has come."""

    node: str
    percent: float


ProgressListener = Callable[[Progress], None]
"""Called on the event loop."""


@dataclass(frozen=True, slots=True)
class NodeHealth:
    """What a self-test of one node found."""

    state: NodeState
    detail: str = ""
    elapsed_ms: float = 0.0
