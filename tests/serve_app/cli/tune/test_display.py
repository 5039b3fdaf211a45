"""How tuning looks on a terminal and in a log."""

import io

from rich.console import Console

from serve_app.cli.tune.bench import Trial
from serve_app.cli.tune.choice import Goal
from serve_app.cli.tune.crew import Figures
from serve_app.cli.tune.display import Bar, show_changes, show_trials
from serve_app.cli.tune.edit import Change
from serve_app.cli.tune.settings import NodeSetting, Setting
from serve_app.cli.tune.tuner import Tuned

NODE = NodeSetting(num_threads=1, max_batch_size=4, max_concurrent_batches=1)
SETTING = Setting(2, 1, {"face_detection": NODE})


def console(*, terminal: bool) -> tuple[Console, io.StringIO]:
    """Make a console of 100 columns, and what it prints into."""
    out = io.StringIO()
    return Console(file=out, force_terminal=terminal, width=100, color_system=None), out


def test_a_terminal_has_a_bar() -> None:
    """The bar counts what is done and what is expected, and says what is measured."""
    bar = Bar(console(terminal=True)[0])
    with bar:
        bar.expect(3)
        bar.step("one")
        bar.step("two [x]")
        (task,) = bar._progress.tasks
        assert (1, 3) == (task.completed, task.total)
        bar._progress.refresh()
    assert "two \\[x]" == task.description


def test_a_log_has_lines() -> None:
    """Elsewhere each measurement is a line."""
    shown, out = console(terminal=False)
    with Bar(shown) as bar:
        bar.expect(2)
        bar.step("one")
        bar.step("two")
    assert ["measuring one", "measuring two"] == out.getvalue().split("\n")[:2]


def test_trials() -> None:
    """Figures stand in columns; what was not tried says why."""
    trials = [
        Trial("2 processes", Figures(88.91, 90.04, 103.9, 22.4, 1331)),
        Trial("9 processes", None, "needs 1,500 MB, has 900"),
    ]
    shown, out = console(terminal=False)
    show_trials([Tuned("ingress", 31.4, SETTING, SETTING, trials=trials)], Goal.THROUGHPUT, shown)
    lines = [line.split() for line in out.getvalue().splitlines()]
    assert ["ingress:", "31", "ms", "of", "CPU", "for", "a", "request"] in lines
    assert ["2", "processes", "88.9", "90.0", "103.9", "22.4", "1,331"] in lines
    assert "Not tried: 9 processes, which needs 1,500 MB, has 900.\n" in out.getvalue()


def test_changes() -> None:
    """A change is shown with its key and its reason; what has no reason is not."""
    shown, out = console(terminal=False)
    key = ("applications", 0, "deployments", 1, "num_replicas")
    show_changes([Change((*key[:-1], "name"), "x"), Change(key, 2, "faster")], shown)
    assert "deployments[1].num_replicas: 2\n    faster\n" == out.getvalue()
