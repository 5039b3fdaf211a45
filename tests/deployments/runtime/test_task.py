"""What long work shares with whoever waits for it."""

import math
import threading

import pytest

from deployments.runtime.errors import CancelledRequestError
from deployments.runtime.task import Task, current_task, running


@pytest.mark.parametrize(
    ("reported", "heard"),
    [
        ([], []),
        ([0], [0]),
        ([0, 12.5, 100], [0, 12.5, 100]),
        ([-3, 101, math.inf], [0, 100, 100]),
    ],
)
def test_progress(reported: list[float], heard: list[float]) -> None:
    """Progress is passed on as percent, from 0 to 100."""
    percents: list[float] = []
    task = Task(percents.append)
    for percent in reported:
        task.report(percent)
    assert heard == percents


def test_nobody_listens() -> None:
    """Work may report whether somebody listens or not."""
    task = Task()
    task.report(50)
    task.raise_if_cancelled()
    assert not task.cancelled


def test_cancel() -> None:
    """A task that was cancelled stays so, and its work is told when it asks."""
    task = Task()
    task.cancel()
    task.cancel()
    assert task.cancelled
    with pytest.raises(CancelledRequestError, match="the request was cancelled"):
        task.raise_if_cancelled()


def test_cancel_from_another_thread() -> None:
    """Work in one thread sees that another one has cancelled it."""
    task = Task()
    thread = threading.Thread(target=task.cancel)
    thread.start()
    thread.join()
    assert task.cancelled


def test_outside_of_a_host() -> None:
    """Where no host has set one, there is a task that nobody watches, never a cancelled one."""
    current_task().cancel()
    assert not current_task().cancelled


def test_running() -> None:
    """The innermost block counts, and the outer one again after it, also when it fails."""
    outer, inner = Task(), Task()

    def fail() -> None:
        with running(inner):
            assert inner is current_task()
            raise ZeroDivisionError

    with running(outer) as given:
        assert outer is given is current_task()
        with pytest.raises(ZeroDivisionError):
            fail()
        assert outer is current_task()
    assert current_task() not in {outer, inner}


def test_threads_have_their_own() -> None:
    """A task counts in the thread that set it."""
    mine, seen = Task(), []
    with running(mine):
        thread = threading.Thread(target=lambda: seen.append(current_task()))
        thread.start()
        thread.join()
    assert mine not in seen
    assert 1 == len(seen)
