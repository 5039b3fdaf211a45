"""The command line of the benchmarks."""

import json
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import click
from rich.console import Console
from rich.markup import escape

from benchmarks import comparison, hosting, memory, policies
from benchmarks.capabilities import comparison as capability_comparison
from benchmarks.comparison import Outcome, Plan
from benchmarks.errors import BenchmarkError
from benchmarks.layouts import DEFAULT_CONFIG
from benchmarks.photos import WORKLOADS, Workload
from benchmarks.progress import steps
from benchmarks.report import plot
from benchmarks.report.machine import BUSY_PERCENT, busy_percent, describe
from benchmarks.report.memory import goals_table, memory_table, start_table
from benchmarks.report.tables import (
    comparison_table,
    layouts_table,
    policies_table,
    processes_table,
    ratios_table,
    targets_table,
)
from benchmarks.report.targets import judge
from deployments.runtime.errors import ClServeError

OUT = Path(__file__).resolve().parent / "out"
QUICK_S = 3.0

_QUICK_WARM_UP_S = 1.0
_WARM_UP_S = 3.0


def _measuring_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options that every command with a service has."""
    for option in (
        click.option(
            "--out",
            type=click.Path(file_okay=False, path_type=Path),
            default=OUT,
            help="Folder for the report.  [default: benchmarks/out]",
        ),
        click.option(
            "--quick",
            is_flag=True,
            help=f"{QUICK_S:g} seconds a measurement: to see that it works, not for figures.",
        ),
        click.option(
            "--config",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            default=DEFAULT_CONFIG,
            help="The YAML file of the graph.  [default: config/serve.yaml]",
        ),
        click.option(
            "--clients",
            type=click.IntRange(1, 64),
            default=8,
            show_default=True,
            help="Photos in work at once where the whole machine is measured.",
        ),
        click.option(
            "--seconds",
            type=click.FloatRange(0.5),
            default=12.0,
            show_default=True,
            help="Length of one measurement.",
        ),
    ):
        function = option(function)
    return function


@click.group(
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@_measuring_options
@click.option(
    "--workload",
    type=click.Choice([*WORKLOADS, "all"]),
    default="all",
    show_default=True,
    help="Which photo: 600x800, 12 megapixels, or both.",
)
@click.option("--check", is_flag=True, help="Exit with 1 unless every target is met.")
@click.pass_context
def cli(  # noqa: PLR0913 - one parameter per option
    context: click.Context,
    *,
    seconds: float,
    clients: int,
    config: Path,
    quick: bool,
    out: Path,
    workload: str,
    check: bool,
) -> None:
    """Compare cl-ml-serve with bare processes and with a plain FastAPI service.

    The same photo, the same models and the same answer for all; one after the other, so that
    each has the machine to itself. Takes about five minutes. Starts a stack of its own on a free
    port and ends it again; another one that serves at the same time would spoil the figures.

    \b
    bare           one process per core, capabilities called directly: the limit
    plain FastAPI  one process, defaults everywhere: what most people would write
    tuned FastAPI  the same with this project's computing code, for information
    cl-ml-serve    as `cl-serve up` starts it, over HTTP and over Python handles

    Ratios to bare and plain are judged against targets. The report goes to benchmarks/out:
    report.json has the raw numbers, report.png a plot. benchmarks/README.md says how to read it.

    \b
    Examples:
        python -m benchmarks                        everything
        python -m benchmarks --quick                does it work at all?
        python -m benchmarks --workload small       the small photo only
        python -m benchmarks capabilities           thumbnail, analyze, exif, HLS
        python -m benchmarks memory                 memory, start and waking of the profiles
        python -m benchmarks hosts                  how to spread nodes over processes
        python -m benchmarks batching               why batches are formed as they are
    """  # noqa: D301 - click's \b keeps the lines as they are
    if context.invoked_subcommand is not None:
        return
    chosen = WORKLOADS if workload == "all" else (cast("Workload", workload),)
    plan = _plan(config, chosen, clients, seconds, quick=quick)
    console = Console()
    busy = _warn_if_busy(console)
    with steps(console, plan.total_s) as progress:
        progress.show("making the photos")
        photos = comparison.prepare(config, chosen)
        outcome = comparison.compare(plan, photos, progress)

    judged = judge(outcome.comparisons, valid=not outcome.doubts)
    for found in outcome.comparisons.values():
        console.print(comparison_table(found))
        title = f"cl-ml-serve, {found.photo.workload} photo, {clients} clients: CPU by process"
        console.print(processes_table(found.served_all, title))
    console.print(targets_table(judged))
    _show_doubts(console, outcome)
    report = {
        "drift": round(outcome.drift, 3),
        "doubts": list(outcome.doubts),
        "targets": [entry.to_json() for entry in judged],
        "workloads": {name: found.to_json() for name, found in outcome.comparisons.items()},
    }
    out.mkdir(parents=True, exist_ok=True)
    plot.draw(outcome.comparisons, out / "report.png", valid=not outcome.doubts)
    _write(out / "report.json", plan, busy, report)
    console.print(f"Report: {out / 'report.json'}, {out / 'report.png'}", soft_wrap=True)
    if check and any(entry.verdict != "pass" for entry in judged):
        sys.exit(1)


@cli.command()
@_measuring_options
def hosts(*, seconds: float, clients: int, config: Path, quick: bool, out: Path) -> None:
    """Compare ways to spread the face nodes over deployments, on the small photo.

    Every layout is a stack of its own, made from the YAML file by changing `hosts` and
    `replicas`. Takes about ten minutes. docs/decisions/0003-hosting.md draws the conclusion.
    """
    plan = _plan(config, ("small",), clients, seconds, quick=quick)
    console = Console()
    busy = _warn_if_busy(console)
    with steps(console, hosting.expected_s(plan)) as progress:
        progress.show("making the photo")
        photos = comparison.prepare(config, plan.workloads)
        rows = hosting.compare(plan, photos["small"], progress)
    console.print(layouts_table(rows, clients))
    out.mkdir(parents=True, exist_ok=True)
    _write(out / "hosts.json", plan, busy, {"layouts": rows})
    console.print(f"Report: {out / 'hosts.json'}", soft_wrap=True)


@cli.command()
@click.option(
    "--seconds",
    type=click.FloatRange(0.1),
    default=3.0,
    show_default=True,
    help="Length of one measurement.",
)
def batching(*, seconds: float) -> None:
    """Compare two batching policies on a made-up model of 20 ms a batch; no stack, no photos.

    One forms a batch and then waits for the model, as Ray Serve's own does; the other one waits
    for the model and then takes all that is there. docs/decisions/0002-batching.md draws the
    conclusion.
    """
    console = Console()
    with steps(console, policies.expected_s(seconds)) as progress:
        rows = policies.compare(seconds, progress)
    console.print(policies_table(rows))


@cli.command()
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=OUT,
    help="Folder for the report.  [default: benchmarks/out]",
)
@click.option("--quick", is_flag=True, help="To see that it works, not for figures.")
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    default=DEFAULT_CONFIG,
    help="The YAML file of the graph.  [default: config/serve.yaml]",
)
@click.option("--check", is_flag=True, help="Exit with 1 unless every target is met.")
def capabilities(*, out: Path, quick: bool, config: Path, check: bool) -> None:
    """Compare single capabilities with what people would otherwise write or run.

    \b
    thumbnail   of a 12-megapixel JPEG, against plain Pillow
    analyze     six outputs of one photo over HTTP, against the bare models alone
    exif        of 200 photos, against one ExifTool process per file
    HLS         of a 720p video, against the same FFmpeg command by hand

    Takes about five minutes. Stand-ins take the place of models that can't be fetched
    everywhere: the same architecture with made-up weights.
    """  # noqa: D301 - click's \b keeps the lines as they are
    plan = capability_comparison.Plan(config.resolve())
    if quick:
        plan = replace(plan, rounds=3, exif_photos=10, video_s=4, video_rounds=1)
    console = Console()
    busy = _warn_if_busy(console)
    with steps(console, plan.total_s) as progress:
        outcome = capability_comparison.compare(plan, progress)
    console.print(ratios_table(outcome.ratios))
    console.print(f"With stand-ins: {', '.join(outcome.stand_ins)}.", soft_wrap=True)
    console.print(f"Memory of the whole service: {outcome.memory_bytes / 1e6:.0f} MB.")
    document = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": describe(),
        "busy_before_percent": busy,
        "stand_ins": outcome.stand_ins,
        "memory_bytes": outcome.memory_bytes,
        "ratios": [ratio.to_json() for ratio in outcome.ratios],
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / "capabilities.json").write_text(json.dumps(document, indent=1), encoding="utf-8")
    console.print(f"Report: {out / 'capabilities.json'}", soft_wrap=True)
    if check and any(ratio.verdict != "pass" for ratio in outcome.ratios):
        sys.exit(1)


@cli.command(name="memory")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=OUT,
    help="Folder for the report.  [default: benchmarks/out]",
)
@click.option(
    "--profile",
    "profiles",
    multiple=True,
    type=click.Choice(list(memory.CONFIGS)),
    help="config/serve.yaml or config/serve.pi.yaml.  [default: both]",
)
@click.option("--check", is_flag=True, help="Exit with 1 unless every goal is met.")
def measure_memory(*, out: Path, profiles: tuple[memory.Profile, ...], check: bool) -> None:
    """Measure the memory of the shipped profiles, how long they start, and how long they wake.

    Memory is the PSS of every process of the stack, part by part: as it starts, after each node
    has answered once, and when what sleeps is asleep again. Every model takes part, those that
    can't be fetched everywhere as stand-ins of full size. Takes about three minutes a profile.
    """
    console = Console()
    busy = _warn_if_busy(console)
    chosen = profiles or tuple(memory.CONFIGS)
    with steps(console, len(chosen) * memory.EXPECTED_S) as progress:
        outcomes = [memory.measure_shipped(profile, progress) for profile in chosen]
    for outcome in outcomes:
        console.print(memory_table(outcome))
        console.print(start_table(outcome))
        console.print(goals_table(outcome))
    document = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": describe(),
        "busy_before_percent": busy,
        "profiles": [outcome.to_json() for outcome in outcomes],
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / "memory.json").write_text(json.dumps(document, indent=1), encoding="utf-8")
    console.print(f"Report: {out / 'memory.json'}", soft_wrap=True)
    if check and not all(figure.is_met for outcome in outcomes for figure in outcome.figures()):
        sys.exit(1)


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


def _plan(
    config: Path, workloads: tuple[Workload, ...], clients: int, seconds: float, *, quick: bool
) -> Plan:
    return Plan(
        config=config.resolve(),
        workloads=workloads,
        clients=clients,
        seconds=QUICK_S if quick else seconds,
        warm_up_s=_QUICK_WARM_UP_S if quick else _WARM_UP_S,
    )


def _warn_if_busy(console: Console) -> float:
    busy = busy_percent()
    if busy > BUSY_PERCENT:
        console.print(
            f"[yellow]Something else uses {busy:.0f} % of this machine now; "
            "figures and ratios will be off.[/]",
        )
    return busy


def _show_doubts(console: Console, outcome: Outcome) -> None:
    console.print(f"Bare processes, measured again at the end: {outcome.drift:+.1%} images/s.")
    for doubt in outcome.doubts:
        console.print(f"[yellow]Not to be believed: {doubt}.[/]")
    if outcome.doubts:
        console.print("[yellow]No target is judged. Measure again when nothing else runs.[/]")


def _write(path: Path, plan: Plan, busy: float, report: dict[str, Any]) -> None:
    document = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": describe(),
        "busy_before_percent": busy,
        "plan": {
            "config": str(plan.config),
            "clients": plan.clients,
            "seconds": plan.seconds,
            "warm_up_s": plan.warm_up_s,
        },
        **report,
    }
    path.write_text(json.dumps(document, indent=1), encoding="utf-8")
