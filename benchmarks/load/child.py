"""Work in a process of its own, so that who measures shares no interpreter with who is measured.

The work tells when its measured window begins and ends; the CPU of others is read at these two
moments. Processes are spawned, not forked, since Ray and ONNX Runtime hold threads.
"""

import multiprocessing
import signal
import traceback
from collections.abc import Callable, Mapping
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from benchmarks.errors import BenchmarkError

P = ParamSpec("P")
T = TypeVar("T")

_END_S = 5
"""How long a process may take to end after its result."""

spawn = multiprocessing.get_context("spawn")


class Meter(Protocol):
    """Measures others while a child's window is open."""

    def begin(self) -> None:
        """Take the first reading."""
        ...

    def end(self) -> None:
        """Take the second reading."""
        ...


class Channel(Protocol):
    """One end of a pipe between two processes."""

    def send(self, obj: Any, /) -> None:  # noqa: ANN401 - whatever pickles
        """Send an object."""
        ...

    def recv(self) -> Any:  # noqa: ANN401 - as above
        """Wait for an object. Raises ``EOFError`` when the other end is closed."""
        ...


class Window:
    """The child's side: marks when what is measured begins and ends."""

    def __init__(self, connection: Channel) -> None:
        """Keep the way to the parent."""
        self._connection = connection

    def begin(self) -> None:
        """The warm-up is over."""
        self._connection.send(("begin", None))

    def end(self) -> None:
        """The measurement is over."""
        self._connection.send(("end", None))


def in_process(
    work: Callable[Concatenate[Window, P], T],
    meter: Meter | None = None,
    *args: P.args,
    **kwargs: P.kwargs,
) -> T:
    """Run ``work(window, *args)`` in a new process and return its result.

    Args:
        work: a function at the top of a module, since it crosses to the process by name.
        meter: is read when the work opens and closes its window.
        args: positional arguments of ``work``; they and the result must pickle.
        kwargs: keyword arguments of ``work``.

    Raises:
        BenchmarkError: the work raised, with its traceback, or the process died.

    """
    here, there = spawn.Pipe()
    process = spawn.Process(target=_main, args=(there, work, args, kwargs), daemon=True)
    process.start()
    there.close()
    try:
        result = _listen(here, meter)
        process.join(timeout=_END_S)
    except EOFError as error:
        process.join()
        raise BenchmarkError(
            f"{work.__qualname__} died with exit code {process.exitcode}"
        ) from error
    finally:
        here.close()
        if process.is_alive():
            process.terminate()
            process.join()
    return result


def _listen(connection: Channel, meter: Meter | None) -> Any:  # noqa: ANN401 - the work's own type
    while True:
        kind, value = connection.recv()
        if kind == "begin" and meter is not None:
            meter.begin()
        elif kind == "end" and meter is not None:
            meter.end()
        elif kind == "result":
            return value
        elif kind == "error":
            raise BenchmarkError(value)


def _main(
    connection: Channel,
    work: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
) -> None:
    # Ctrl-C reaches every process of the terminal; the parent ends this one when it is time.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        result = work(Window(connection), *args, **kwargs)
    except BenchmarkError as error:
        connection.send(("error", str(error)))
    except Exception:  # noqa: BLE001 - crosses to the parent as text, since not every error pickles
        connection.send(("error", traceback.format_exc()))
    else:
        connection.send(("result", result))
