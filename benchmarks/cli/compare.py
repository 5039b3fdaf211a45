"""``python -m benchmarks``: the comparison, and the other commands as its subcommands."""

import signal
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import click
from rich.console import Console
from rich.markup import escape

from benchmarks import memory, suite
from benchmarks.capabilities.comparison import install_stand_ins
from benchmarks.cli.common import (
    config_option,
    out_option,
    quick_option,
    seconds_option,
    warn_if_busy,
    write,
)
from benchmarks.cli.documents import document
from benchmarks.cli.single import capabilities, measure_memory
from benchmarks.cli.studies import batching, hosts
from benchmarks.errors import BenchmarkError
from benchmarks.load.child import in_process
from benchmarks.progress import Steps, steps
from benchmarks.report import plot
from benchmarks.report.reading import Document, find
from benchmarks.report.tables import processes_table, rates_table, targets_table
from benchmarks.report.targets import judge
from benchmarks.runner import Length, expected_s, measure
from benchmarks.suite import Task
from benchmarks.workloads import capabilities as capability_workloads
from benchmarks.workloads.photos import PHOTOS
from benchmarks.workloads.prepare import face_workloads
from benchmarks.workloads.workload import Workload
from deployments.runtime.errors import ClServeError

_WARM_UP_S = 2.0
_QUICK = Length(2.0, 1.0)


@click.group(
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@out_option
@quick_option
@config_option
@seconds_option(8.0)
@click.option("--full", is_flag=True, help="Every workload, load and subject: about 45 minutes.")
@click.option(
    "--subject",
    "chosen",
    multiple=True,
    metavar="WORDS",
    help="Only subjects whose names contain this, whatever the case; may be repeated.",
)
@click.option("--check", is_flag=True, help="Exit with 1 unless every number is reached.")
@click.pass_context
def cli(  # noqa: PLR0913 - one parameter per option
    context: click.Context,
    *,
    out: Path,
    quick: bool,
    config: Path,
    seconds: float,
    full: bool,
    chosen: tuple[str, ...],
    check: bool,
) -> None:
    """Compare cl-ml-serve with bare processes and with what people would otherwise run.

    The same photos, the same models and the same answers for all; one after the other, so that
    each has the machine to itself. Takes about ten minutes. Starts stacks of its own on free
    ports and ends them again; another one that serves at the same time would spoil the figures.
    Ctrl-C ends everything that was started.

    \b
    bare processes       one per core, capabilities called directly: the limit
    plain FastAPI        one process, defaults everywhere: what most people would write
    tuned FastAPI        the same with this project's computing code, for information
    LitServe, BentoML    with batching on and a worker per core, as their documentation has it
    Ray Serve, defaults  one deployment per model and no option set
    cl-ml-serve          as `cl-serve up` starts it, over HTTP; also with a deployment per model,
                         and all of it on one core in place of a Raspberry Pi

    The numbers to reach are judged. The report goes to benchmarks/out: report.json has the
    figures, *.svg the plots. benchmarks/README.md says how to read it.

    \b
    Examples:
        python -m benchmarks                        the numbers to reach
        python -m benchmarks --full                 every workload, load and subject
        python -m benchmarks --quick                does it work at all?
        python -m benchmarks --subject bare --subject litserve
        python -m benchmarks document               write docs/benchmarks.md from the report
        python -m benchmarks capabilities           thumbnail, analyze, exif, HLS
        python -m benchmarks memory                 memory, start and waking of the profiles
        python -m benchmarks hosts                  how to spread nodes over processes
        python -m benchmarks batching               why batches are formed as they are
    """  # noqa: D301 - click's \b keeps the lines as they are
    if context.invoked_subcommand is not None:
        return
    console = Console()
    busy = warn_if_busy(console)
    length = _QUICK if quick else Length(seconds, _WARM_UP_S)
    with ExitStack() as stack:
        tasks = suite.short(config)
        if full:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="cl-serve-bench-"))
            with_stand_ins, _ = in_process(install_stand_ins, None, config, Path(folder))
            tasks = suite.full(config, with_stand_ins)
        tasks = _choose(tasks, chosen)
        profiles = tuple(memory.CONFIGS) if full and not chosen else ()
        with steps(console, expected_s(tasks, length, profiles)) as progress:
            workloads = _workloads(config, tasks, progress)
            results = measure(tasks, workloads, length, progress, profiles)
    judged = [entry.to_json() for entry in judge(results)]
    plan = {
        "full": full,
        "seconds": length.seconds,
        "warm_up_s": length.warm_up_s,
        "config": config.name,
    }
    report = {"plan": plan, "ratios": judged, **results.to_json()}
    document = write(console, out / "report.json", busy, report)
    plot.draw_all(document, out)
    show(console, document)
    if check and any(line["verdict"] != "pass" for line in document["ratios"]):
        sys.exit(1)


def show(console: Console, document: Document) -> None:
    """Print the tables of a report; the verdicts last, where one looks first."""
    for workload in document["workloads"]:
        console.print(rates_table(document, workload))
    busiest = find(document, suite.OURS, "small", suite.BUSY.title)
    if busiest is not None:
        console.print(processes_table(busiest, f"CPU by process: {busiest['id']}"))
    console.print(targets_table(document))
    if any(run["subject"] == suite.BARE for run in document["runs"]):
        console.print(f"Bare processes, once more at the end: {document['drift']:+.1%} images/s.")
    for what, why in document["failures"].items():
        console.print(f"[yellow]{escape(what)}: {escape(why)}[/]", soft_wrap=True)
    for doubt in document["doubts"]:
        console.print(f"[yellow]Not to be believed: {escape(doubt)}.[/]")


def _choose(tasks: Sequence[Task], words: Sequence[str]) -> list[Task]:
    """Keep the subjects whose names contain one of some words; all of them without words.

    Raises:
        click.BadParameter: there is no such subject.

    """
    for word in words:
        if not any(word.lower() in task.subject.lower() for task in tasks):
            names = ", ".join(task.subject for task in tasks)
            raise click.BadParameter(f"no subject has {word!r} in its name: {names}")
    return [
        task
        for task in tasks
        if not words or any(word.lower() in task.subject.lower() for word in words)
    ]


def _workloads(config: Path, tasks: Sequence[Task], progress: Steps) -> dict[str, Workload]:
    """Make the workloads that the tasks need."""
    progress.show("making the photos")
    wanted = {name for task in tasks for name, _ in task.measurements}
    of_capabilities = wanted.intersection(capability_workloads.NAMES)
    photos = [
        name
        for name in PHOTOS
        if name in wanted or (of_capabilities and name in ("small", "large"))
    ]
    made = {workload.name: workload for workload in face_workloads(config, photos)}
    if of_capabilities:
        small, large = (made[name].posts[0].body for name in ("small", "large"))
        made |= {w.name: w for w in capability_workloads.workloads(small, large)}
    return {name: workload for name, workload in made.items() if name in wanted}


for command in (capabilities, measure_memory, hosts, batching, document):
    cli.add_command(command)


def main() -> None:
    """Run the command; expected errors are a sentence and exit code 1, without a traceback."""
    # `finally` must run when somebody ends us, or a stack would go on.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        cli(prog_name="python -m benchmarks")
    except (BenchmarkError, ClServeError) as error:
        Console(stderr=True).print(
            f"[bold red]benchmarks:[/] {escape(str(error))}", highlight=False
        )
        sys.exit(1)
