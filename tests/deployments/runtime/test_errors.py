"""The error tree."""

import pickle
from collections.abc import Iterator

import pytest

from deployments.runtime import errors
from deployments.runtime.errors import ClServeError


def subclasses(of: type[ClServeError]) -> Iterator[type[ClServeError]]:
    """Yield all classes below one, at any depth."""
    for subclass in of.__subclasses__():
        yield subclass
        yield from subclasses(subclass)


TREE = [
    ClServeError,
    *(error for error in subclasses(ClServeError) if error.__module__ == errors.__name__),
]


@pytest.mark.parametrize("error", TREE, ids=lambda error: error.__name__)
def test_pickling(error: type[ClServeError]) -> None:
    """Each error keeps its class and its message on the way through a handle."""
    copy = pickle.loads(pickle.dumps(error("what was wrong: \u00e4")))  # noqa: S301 - our own bytes
    assert error is type(copy)
    assert "what was wrong: \u00e4" == str(copy)
    assert ("what was wrong: \u00e4",) == copy.args


@pytest.mark.parametrize("error", TREE, ids=lambda error: error.__name__)
def test_is_in_the_tree_that_is_drawn(error: type[ClServeError]) -> None:
    """The drawing at the top of the file names each class, and each says what it stands for."""
    assert error.__name__ in (errors.__doc__ or "")
    assert error.__doc__
