"""``cl-serve tune``: the command itself, from its options to the file that it writes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.resources import files
from itertools import islice
from pathlib import Path

import click
import yaml
from rich.console import Console

from deployments.runtime.atomic import atomic_write
from deployments.runtime.errors import ConfigError, StackError
from deployments.runtime.types import Media, Upload
from serve_app.cli.stack import ended_by_sigterm, state_option
from serve_app.cli.tune import machine
from serve_app.cli.tune.bench import MIN_CLIENTS, NORMAL, QUICK
from serve_app.cli.tune.choice import Goal, choose
from serve_app.cli.tune.crew import Figures
from serve_app.cli.tune.display import Bar, show_changes, show_trials, show_verified
from serve_app.cli.tune.edit import Change, edited
from serve_app.cli.tune.replica import Load
from serve_app.cli.tune.tuner import Machine, Tuned, Tuner
from serve_app.cli.tune.verify import Request, verify
from serve_app.config import ServeFile, load_file
from serve_app.settings import config_folder
from serve_app.source import read_source
from serve_app.stack import Stack

TEXT = "a red car on a street"
"""For nodes that need a text; the time of a text model does not depend on it."""

CURRENT = "the file as it is"

MAX_STACKS = 3
"""That ``--verify`` starts, the present file's among them: each takes half a minute."""


@click.command()
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The YAML file to tune; by default config/serve.yaml.",
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file to write.  [default: NAME.tuned.yaml in this folder]",
)
@click.option(
    "--for",
    "goal",
    type=click.Choice(Goal, case_sensitive=False),
    default=Goal.THROUGHPUT.value,
    show_default=True,
    help="Many requests at once, or the shortest answer to a single user.",
)
@click.option("--quick", is_flag=True, help="A third of the time, and figures that vary more.")
@click.option(
    "--verify",
    "verified",
    is_flag=True,
    help="Start whole stacks with the best settings too, and write only what holds over HTTP.",
)
@click.option(
    "--photo",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Measure with this photo, best one of yours; by default a small one with a face.",
)
@state_option
def tune(  # noqa: PLR0913 - one for each option
    *,
    config: Path | None,
    output: Path | None,
    goal: Goal,
    quick: bool,
    verified: bool,
    photo: Path | None,
    state: Path | None,
) -> None:
    """Measure this machine and write a YAML file that suits it.

    Tries processes, worker threads, threads of sessions and batch sizes of every node that runs a
    model, on all cores and within the memory that is free, and writes the file with the values
    that are better by 5 % or more. Each has the measured reason in a comment above it; all else in
    the file stays as it is. Takes one to three minutes, on an otherwise idle machine.

    \b
    Examples:
        cl-serve tune
        cl-serve tune --config my.yaml --output my.tuned.yaml --photo ~/Pictures/party.jpg
        cl-serve tune --config my.yaml --for latency
        cl-serve tune --config my.yaml --verify
    """  # noqa: D301 - click's \b keeps the lines as they are
    console = Console()
    running = Stack(state).running()
    if running is not None:
        raise StackError(
            f"a graph runs on this machine, at {running.url}, and would spoil the figures; end it "
            "with `cl-serve down` first",
        )
    path = config or config_folder() / "serve.yaml"
    output = output or Path(f"{path.stem}.tuned.yaml")
    file = load_file(path)
    _require_output(file, output)
    data = (photo or files("serve_app.cli").joinpath("sample.jpg")).read_bytes()
    upload = Upload(Media(data, photo.name if photo else "sample.jpg"), (TEXT,))
    tuner = Tuner(file, upload, Machine(machine.cores(), machine.memory_for_replicas_mb()))
    for name, why in tuner.left_out.items():
        _say(console, f"{name} stays as it is: {why}.")
    if (share := machine.busy_share()) > machine.BUSY_SHARE:
        _say(console, f"Other programs use {share:.0%} of this machine: figures will vary.")
    pace = QUICK if quick else NORMAL
    with Bar(console) as bar:
        found = tuner.tune(goal, pace, bar)
    show_trials(found, goal, console)
    text = path.read_text(encoding="utf-8")
    changes = [change for tuned in found for change in tuned.changes(file)]
    if verified:
        request = Request(data, TEXT, tuner.outputs)
        load = Load(_clients(file, goal), 1 + pace.warm_up_s, 3 * pace.window_s)
        options = dict(islice(_options(file, found), MAX_STACKS))
        stacks = {title: _with(file, text, option) for title, option in options.items()}
        with ended_by_sigterm(), Bar(console) as bar:
            figures = verify(stacks, request, load, bar)
        best = choose(figures, CURRENT, goal, lambda title: figures[title].memory_mb)
        show_verified(figures, best, goal, console)
        changes = _confirmed(options[best], figures, best, goal)
    if not changes:
        _say(console, f"{path} suits this machine: nothing is better by 5 %. No file is written.")
        return
    with atomic_write(output) as target:
        target.write(edited(text, changes).encode())
    load_file(output)
    show_changes(changes, console)
    _say(console, f"Written to {output}. Start it: cl-serve up --config {output}")
    _say(console, f"Where a graph runs: cl-serve diff {output}, then cl-serve deploy {output}")


def _require_output(file: ServeFile, output: Path) -> None:
    """Refuse what would fail after minutes of measuring."""
    if output.exists():
        raise ConfigError(f"{output} exists already; remove it, or name another with --output")
    if not output.parent.is_dir():
        raise ConfigError(f"there is no folder {output.parent}; make it, or name another --output")
    moved = ServeFile(read_source(file.path).data, output)
    if moved.document != file.document:
        raise ConfigError(
            f"{file.path} has paths that start at its own folder, so a copy elsewhere would mean "
            f"others; name a file beside it: --output {file.path.parent / output.name}",
        )


def _options(file: ServeFile, found: Sequence[Tuned]) -> Iterator[tuple[str, list[Change]]]:
    """Yield the file as it is, the tuned one, and the next best settings of its dearest part."""
    yield CURRENT, []
    if changes := [change for tuned in found for change in tuned.changes(file)]:
        yield "tuned", changes
    first, *rest = found
    for other in first.others:
        option = Tuned(first.name, first.cost_ms, first.old, other)
        if changes := [c for tuned in (option, *rest) for c in tuned.changes(file)]:
            yield f"{first.name}: {other}", changes


def _with(file: ServeFile, text: str, changes: Sequence[Change]) -> ServeFile:
    return ServeFile(yaml.safe_load(edited(text, changes)), file.path)


def _clients(file: ServeFile, goal: Goal) -> int:
    """Count clients for a stack: no more than one ingress takes, as it may be the only one."""
    if goal is Goal.LATENCY:
        return 1
    return min(max(MIN_CLIENTS, 2 * machine.cores()), file.args.limits.max_concurrent_requests)


def _confirmed(
    changes: Sequence[Change],
    figures: Mapping[str, Figures],
    best: str,
    goal: Goal,
) -> list[Change]:
    """Say with each change what the whole stack did with all of them."""
    why = (
        f"over HTTP {goal.say(figures[best])} with all changes, {goal.say(figures[CURRENT])} before"
    )
    return [
        change if change.key[-1] == "name" else replace(change, reason=_joined(change.reason, why))
        for change in changes
    ]


def _joined(*reasons: str) -> str:
    return "; ".join(filter(None, reasons))


def _say(console: Console, text: str) -> None:
    console.print(text, soft_wrap=True, highlight=False, markup=False)
