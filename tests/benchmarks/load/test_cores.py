"""One core for a while, and who has another one."""

import os
import subprocess
import sys

import psutil
import pytest

from benchmarks.errors import BenchmarkError
from benchmarks.load.cores import check_bound, one_core

_SHOW = "import os; print(sorted(os.sched_getaffinity(0)))"


def test_processes_that_are_started_inherit_the_core() -> None:
    """Within the block there is one core, for children as well; after it there are all again."""
    before = os.sched_getaffinity(0)
    with one_core() as core:
        assert {core} == os.sched_getaffinity(0)
        shown = subprocess.run([sys.executable, "-c", _SHOW], capture_output=True, check=True)
    assert f"[{core}]\n" == shown.stdout.decode()
    assert before == os.sched_getaffinity(0)


def test_who_breaks_out_is_named() -> None:
    """A process with other cores is an error; one that has ended is nobody."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        process = psutil.Process(child.pid)
        (first, *_) = process.cpu_affinity() or []
        process.cpu_affinity([first])
        check_bound(lambda: [process], first)
        with pytest.raises(BenchmarkError, match=f"was to stay on core {first + 1}"):
            check_bound(lambda: [process], first + 1)
        child.communicate(b"\n")
    check_bound(lambda: [process], first + 1)
