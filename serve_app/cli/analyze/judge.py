"""What an answer of the service means: a result, a failure of the file, or a reason to wait.

The service's problems say by their kind what is at fault. Answers from elsewhere, such as a
proxy before a service that restarts, say nothing about the file, but for 413.
"""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

import httpx2
from click import ClickException

from deployments.runtime.errors import ModelError, ToolNotInstalledError
from serve_app.cli.analyze.contract import MISTAKES, json_of, kind_of
from serve_app.cli.analyze.results import Outcome, Problem, local_problem
from serve_app.http.problems import PROBLEMS

_LASTING = frozenset(
    problem.kind
    for error, problem in PROBLEMS.items()
    if issubclass(error, (ModelError, ToolNotInstalledError))
)
"""Kinds of 503 that waiting does not mend; a later run tries such a file again."""

_PASSING = frozenset({499, HTTPStatus.SERVICE_UNAVAILABLE})
"""Statuses of what may succeed when sent again; 499 is of a service that is being stopped."""

_OF_A_FILE = frozenset({"invalid-parameter"})
"""A capability finds some mistakes only with the file, such as a time after a video's end."""


class TryAgainError(Exception):
    """The same file may get another answer later. ``str(error)`` says why.

    Attributes:
        outcome: what is kept when it gets none.
        may_be_the_file: whether this very file may be what breaks the service.
        retry_after_s: how long the service asks to wait.

    """

    def __init__(
        self,
        reason: str,
        outcome: Outcome | None = None,
        *,
        may_be_the_file: bool = True,
        retry_after_s: float = 0.0,
    ) -> None:
        """Make it; by default the reason is the outcome."""
        super().__init__(reason)
        self.outcome = outcome or local_problem("The service broke off", reason)
        self.may_be_the_file = may_be_the_file
        self.retry_after_s = retry_after_s


def judge(answer: httpx2.Response) -> Outcome:
    """Return what an answer to ``/v1/analyze`` is worth keeping.

    Raises:
        TryAgainError: nothing, or only a part, and more may come later.
        ClickException: the service refuses whatever is sent.

    """
    body = json_of(answer)
    whole = answer.status_code == HTTPStatus.OK and {"outputs", "problems"} <= body.keys()
    kind = kind_of(body)
    if not whole and kind is None:
        return _from_elsewhere(answer)
    if kind in MISTAKES - _OF_A_FILE:
        raise ClickException(f"the service no longer takes this request: {body.get('detail')}")
    outcome = body if whole else {"problem": body}
    passing = [p for p in (body["problems"].values() if whole else (body,)) if _is_passing(p)]
    if passing:
        raise TryAgainError(
            Problem.model_validate(passing[0]).reason,
            outcome,
            may_be_the_file=any(kind_of(problem) != "overloaded" for problem in passing),
            retry_after_s=retry_after_s(answer),
        )
    return outcome


def retry_after_s(answer: httpx2.Response) -> float:
    """Return how long an answer asks to wait, as seconds or a date; 0 if it doesn't."""
    given = answer.headers.get("retry-after", "")
    if given.isdecimal():
        return float(given)
    try:
        wait = parsedate_to_datetime(given) - datetime.now(UTC)
    except (TypeError, ValueError):  # nothing, or no date; TypeError is for one without a zone
        return 0.0
    return max(0.0, wait.total_seconds())


def _is_passing(problem: dict[str, Any]) -> bool:
    return problem.get("status") in _PASSING and kind_of(problem) not in _LASTING


def _from_elsewhere(answer: httpx2.Response) -> Outcome:
    said = f"{answer.status_code} {answer.reason_phrase}"
    if answer.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return {"problem": {"title": "Larger than the limit", "detail": said, "status": 413}}
    busy = {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}
    raise TryAgainError(
        f"the answer was {said}, which is none of the service",
        may_be_the_file=answer.status_code not in busy,
        retry_after_s=retry_after_s(answer),
    )
