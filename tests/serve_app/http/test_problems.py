"""The error table is complete, and its errors survive the way through a handle."""

import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray.exceptions import RayTaskError

from deployments.runtime.errors import ClServeError, CorruptMediaError
from serve_app.http.problems import PROBLEMS, problem_body, problem_for


def subclasses(kind: type[ClServeError]) -> Iterator[type[ClServeError]]:
    """Yield a class and all of ours below it: Ray derives classes from errors that it carries."""
    yield kind
    for below in kind.__subclasses__():
        if not issubclass(below, RayTaskError):
            yield from subclasses(below)


ALL_ERRORS = sorted(set(subclasses(ClServeError)), key=lambda kind: kind.__name__)


@pytest.mark.parametrize("kind", ALL_ERRORS)
def test_every_error_is_mapped(kind: type[ClServeError]) -> None:
    """No error of the tree reaches a client without a status and a kind of its own."""
    assert kind in PROBLEMS
    assert str(pickle.loads(pickle.dumps(kind("why")))) == "why"  # noqa: S301 - our own bytes


def test_kinds_are_unique() -> None:
    """A program can tell every error by its type."""
    kinds = [problem.kind for problem in PROBLEMS.values()]
    assert len(set(kinds)) == len(kinds)


def test_unlisted_subclass_falls_back_to_its_parent() -> None:
    """A third party's own error class is shown as the nearest known one."""
    special = type("SpecialError", (CorruptMediaError,), {})
    assert problem_for(special("x")) is PROBLEMS[CorruptMediaError]
    assert problem_body(special("x"), "id")["request_id"] == "id"


def test_documented() -> None:
    """docs/errors.md has every kind with its status."""
    lines = Path("docs/errors.md").read_text(encoding="utf-8").splitlines()
    documented = {tuple(part.strip(" `") for part in line.split("|")[1:3]) for line in lines}
    expected = {(problem.kind, str(problem.status)) for problem in PROBLEMS.values()}
    assert expected <= {pair for pair in documented if len(pair) == 2}
