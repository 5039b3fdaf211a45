"""A job, as everybody sees it: what was asked for, and how far it has come.

Plain data, which crosses handles and goes into the table as it is.
"""

from dataclasses import dataclass, field, replace
from typing import Any, Literal

JobStatus = Literal["queued", "in_progress", "completed", "failed"]
"""``failed`` is also the end of a cancelled job, with ``error_kind`` ``cancelled``: clients of the
job protocol end on ``completed`` and ``failed`` and wait for ever on any other word."""

ENDED: frozenset[JobStatus] = frozenset({"completed", "failed"})

ANALYZE = "analyze"
"""The task of a job with several outputs."""

DEFAULT_PRIORITY = 5
MAX_PRIORITY = 10
"""Priorities go from 0, the most urgent, to 10, as the original system's SDK has it; among equals
the oldest is first."""

INPUT = "input"
"""Folder of a job's files with what was sent."""


@dataclass(frozen=True, slots=True)
class JobRequest:
    """What a job is to do.

    Attributes:
        job_id: a UUID, chosen by whoever takes the submission, so that submitting again is safe.
        task: a node of the graph, or ``analyze``.
        outputs: the nodes to compute.
        node_params: request parameters by node, as ``Pipeline.analyze`` takes them.
        params: the parameters as the client gave them, which it gets to see again.
        input_name: the file that was sent, in the folder ``input`` of the job's files; or None.
        input_path: a file on the machine's own disk that was named instead; or None.
        input_bytes: the size of what was sent.
        texts: the texts that were sent.
        priority: 0 to 10; 0 is the most urgent.
        webhook: where to tell that it has ended, or None.
        idempotency_key: a second submission with the same key is the same job.
        batch_id: what the jobs of one batch have in common, or None.

    """

    job_id: str
    task: str
    outputs: tuple[str, ...]
    node_params: dict[str, dict[str, Any]] = field(default_factory=dict)
    params: dict[str, Any] = field(default_factory=dict)
    input_name: str | None = None
    input_path: str | None = None
    input_bytes: int = 0
    texts: tuple[str, ...] = ()
    priority: int = DEFAULT_PRIORITY
    webhook: str | None = None
    idempotency_key: str | None = None
    batch_id: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the work on a job gave.

    Attributes:
        task_output: what clients get under this name; JSON.
        params: what clients get to see among ``params`` beside what they gave, such as
            ``output_path``.
        output_bytes: the size of the files that were written.
        elapsed_ms: each node's milliseconds.

    """

    task_output: dict[str, Any]
    params: dict[str, Any] = field(default_factory=dict)
    output_bytes: int = 0
    elapsed_ms: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Job:
    """A job and its state.

    Attributes:
        request: what it is to do.
        status: one of four.
        progress: 0 to 100, and 100 when completed.
        attempts: how often work on it has begun.
        attempt_id: the folder, among the job's files, of the attempt that is under way, or that
            completed it.
        outcome: what it gave, once completed.
        error: why it failed, for people.
        error_kind: the same for programs: the ``kind`` of the problem, as over HTTP.
        dead_letter: it failed for reasons that may pass, and was tried as often as it may be.
        created_at: milliseconds since 1970 in UTC, as all four.
        updated_at: when anything of it changed last.
        started_at: when the first attempt began.
        completed_at: when it ended, however it did.

    """

    request: JobRequest
    status: JobStatus
    progress: float
    attempts: int
    attempt_id: str | None
    outcome: Outcome | None
    error: str | None
    error_kind: str | None
    dead_letter: bool
    created_at: int
    updated_at: int
    started_at: int | None
    completed_at: int | None

    @property
    def job_id(self) -> str:
        """Its id."""
        return self.request.job_id

    def with_progress(self, percent: float) -> "Job":
        """Return the same job, further on while it is in progress."""
        return replace(self, progress=percent) if self.status == "in_progress" else self

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.status in ENDED


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs to list; None for any."""

    status: JobStatus | None = None
    task: str | None = None
    batch_id: str | None = None
    dead_letter: bool | None = None
    limit: int = 50
    offset: int = 0


@dataclass(frozen=True, slots=True)
class JobPage:
    """Some jobs, newest first, and how many match in all."""

    jobs: tuple[Job, ...]
    total: int


@dataclass(frozen=True, slots=True)
class JobStats:
    """How many jobs there are, the bytes of their files, and the places for jobs in work."""

    job_count: int
    total_bytes: int
    max_concurrent: int
    idle: int


@dataclass(frozen=True, slots=True)
class JobEvent:
    """Something happened to a job: what changed, and how it stands now."""

    kind: Literal["queued", "started", "progress", "completed", "failed"]
    job: Job


@dataclass(frozen=True, slots=True)
class JobWork:
    """What the runner asks an ingress to do: one attempt at a job."""

    request: JobRequest
    attempt_id: str
