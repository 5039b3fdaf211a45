"""Figures of a run, CPU accounting, and work in a process of its own."""

import os
import subprocess
import sys
import time
from typing import Any

import psutil
import pytest

from benchmarks.errors import BenchmarkError
from benchmarks.load.child import Window, in_process
from benchmarks.load.cpu import CpuMeter, name_of, pss_bytes, tree_of
from benchmarks.load.run import Run, combine


def test_a_run_without_a_photo_has_zeros() -> None:
    """Nothing divides by zero."""
    empty = Run(clients=1, elapsed_s=2.0, latencies_ms=[])
    assert (0.0, 0.0, 0.0, 0.0) == (
        empty.images_per_s,
        empty.cpu_ms_per_photo,
        empty.mean_ms,
        empty.p50_ms,
    )


def test_figures_follow_from_latencies_and_cpu() -> None:
    """Rate, CPU per photo and percentiles."""
    run = Run(2, 2.0, [10.0, 20.0, 30.0, 100.0], cpu_s={"a": 0.06, "b": 0.02})
    assert 2.0 == run.images_per_s
    assert pytest.approx(20.0) == run.cpu_ms_per_photo
    assert 25.0 == run.p50_ms
    assert pytest.approx(89.5) == run.p95_ms
    assert 40.0 == run.mean_ms


def test_json_has_the_raw_numbers() -> None:
    """What a reader needs to draw the distribution is there, and what was no photo."""
    run = Run(1, 1.0, [1.0, 2.0, 3.0], {"a": 1.0}, {"b": 0.5}, refused=2, errors=1, first_error="x")
    document = run.to_json()
    assert (101, 1.0, 2.0, 3.0) == (
        len(document["percentiles_ms"]),
        *(document["percentiles_ms"][i] for i in (0, 50, 100)),
    )
    assert (2, 1, "x") == tuple(document[key] for key in ("refused", "errors", "first_error"))
    assert {"b": 0.5} == document["cpu_s"]
    assert 3 == document["photos"]


def test_runs_side_by_side_add_up() -> None:
    """Rates are added although the windows differ, CPU too, and stages are averaged."""
    first = Run(1, 1.0, [100.0] * 10, {"a": 2.0}, {"bare": 1.0})
    second = Run(1, 2.0, [200.0] * 10, {"a": 4.0}, {"bare": 2.0})
    both = combine([first, second])
    assert 2 == both.clients
    assert pytest.approx(15.0) == both.images_per_s
    assert {"bare": 3.0} == both.cpu_s
    assert {"a": 3.0} == both.stages_ms
    assert pytest.approx(150.0) == both.cpu_ms_per_photo


TICKS_S = 0.05
"""The kernel counts in ticks of 10 ms and cuts off what is below one."""

_BURN = "import time\nwhile time.process_time() < {seconds}: pass\n"


def test_a_child_that_dies_within_the_window_is_counted() -> None:
    """Its time moves to the parent that waits for it."""
    meter = CpuMeter(tree_of(os.getpid()))
    meter.begin()
    subprocess.run([sys.executable, "-c", _BURN.format(seconds=0.3)], check=True)
    meter.end()
    assert 0.3 - TICKS_S <= sum(meter.cpu_s.values()) < 1.5


def test_a_child_that_lives_on_is_counted() -> None:
    """A process born within the window counts with all of its time."""
    meter = CpuMeter(tree_of(os.getpid()))
    meter.begin()
    code = _BURN.format(seconds=0.3) + "print(flush=True)\ninput()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        meter.end()
        child.communicate(b"\n")
    assert 0.3 - TICKS_S <= sum(meter.cpu_s.values()) < 1.5


def test_what_others_use_is_seen() -> None:
    """A process that is not this one's child, busy within the window, counts as others."""
    code = _BURN.format(seconds=0.5)
    meter = CpuMeter(list)
    meter.begin()
    # Started by a shell that ends at once, so that nobody here is its parent any more.
    subprocess.run(["/bin/sh", "-c", f"{sys.executable} -c '{code}' &"], check=True)
    time.sleep(1.0)
    meter.end()
    assert meter.others_share > 0.1


class _Process:
    """Stands for a process with a command line."""

    def __init__(self, cmdline: list[str], name: str = "") -> None:
        self._cmdline, self._name = cmdline, name

    def cmdline(self) -> list[str]:
        """Return the words."""
        return self._cmdline

    def name(self) -> str:
        """Return the program's name."""
        return self._name


@pytest.mark.parametrize(
    ("cmdline", "expected"),
    [
        (["ray::ServeReplica:cl-ml-serve:face_embedding"], "face_embedding"),
        (["ray::ServeReplica:cl-ml-serve:ingress.handle_request"], "ingress"),
        (["ray::ServeController.listen_for_change"], "ServeController"),
        (["/opt/haproxy", "-f", "x.cfg"], "haproxy"),
        (["/usr/bin/python3", "-u", "/ray/log_monitor.py", "--x"], "log monitor"),
        (["python", "-m", "benchmarks.peers.plain_fastapi"], "benchmarks.peers.plain_fastapi"),
        ([], "kernel-thing"),
    ],
)
def test_processes_are_named_by_what_they_are(cmdline: list[str], expected: str) -> None:
    """A replica by its deployment, else the program or the script."""
    process: Any = _Process(cmdline, "kernel-thing")
    assert expected == name_of(process)


def test_memory_of_this_process_is_seen() -> None:
    """The shared part is counted once, so it is above zero and below the machine's."""
    assert 0 < pss_bytes(lambda: [psutil.Process()]) < psutil.virtual_memory().total


class _Meter:
    """Notes when it is read."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def begin(self) -> None:
        """Note the beginning."""
        self.calls.append("begin")

    def end(self) -> None:
        """Note the end."""
        self.calls.append("end")


def _add(window: Window, first: int, second: int) -> tuple[int, int]:
    window.begin()
    time.sleep(0.01)
    window.end()
    return first + second, os.getpid()


def _fail(_window: Window, message: str) -> None:
    raise BenchmarkError(message)


def _die(_window: Window) -> None:
    os._exit(3)


def test_work_runs_elsewhere_and_its_window_is_metered() -> None:
    """The result comes back, from another process, and the meter is read twice."""
    meter = _Meter()
    total, pid = in_process(_add, meter, 2, second=3)
    assert 5 == total
    assert os.getpid() != pid
    assert ["begin", "end"] == meter.calls


def test_an_error_of_the_work_comes_back_in_its_words() -> None:
    """An expected error keeps its message."""
    with pytest.raises(BenchmarkError, match=r"^no face$"):
        in_process(_fail, None, "no face")


def test_a_process_that_dies_is_noticed() -> None:
    """A crash is an error, not an endless wait."""
    with pytest.raises(BenchmarkError, match="exit code 3"):
        in_process(_die)
