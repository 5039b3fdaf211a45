"""Commands that look at one side of the service: its capabilities one by one, its memory."""

import sys
from dataclasses import replace
from pathlib import Path

import click
from rich.console import Console

from benchmarks import memory
from benchmarks.capabilities import comparison
from benchmarks.cli.common import config_option, out_option, quick_option, warn_if_busy, write
from benchmarks.progress import steps
from benchmarks.report.memory import goals_table, memory_table, start_table
from benchmarks.report.tables import ratios_table


@click.command()
@out_option
@quick_option
@config_option
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
    plan = comparison.Plan(config)
    if quick:
        plan = replace(plan, rounds=3, exif_photos=10, video_s=4, video_rounds=1)
    console = Console()
    busy = warn_if_busy(console)
    with steps(console, plan.total_s) as progress:
        outcome = comparison.compare(plan, progress)
    console.print(ratios_table(outcome.ratios))
    console.print(f"With stand-ins: {', '.join(outcome.stand_ins)}.", soft_wrap=True)
    console.print(f"Memory of the whole service: {outcome.memory_bytes / 1e6:.0f} MB.")
    report = {
        "stand_ins": outcome.stand_ins,
        "memory_bytes": outcome.memory_bytes,
        "ratios": [ratio.to_json() for ratio in outcome.ratios],
    }
    write(console, out / "capabilities.json", busy, report)
    if check and any(ratio.verdict != "pass" for ratio in outcome.ratios):
        sys.exit(1)


@click.command(name="memory")
@out_option
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
    busy = warn_if_busy(console)
    chosen = profiles or tuple(memory.CONFIGS)
    with steps(console, len(chosen) * memory.EXPECTED_S) as progress:
        outcomes = [memory.measure_shipped(profile, progress) for profile in chosen]
    for outcome in outcomes:
        console.print(memory_table(outcome))
        console.print(start_table(outcome))
        console.print(goals_table(outcome))
    report = {"profiles": [outcome.to_json() for outcome in outcomes]}
    write(console, out / "memory.json", busy, report)
    if check and not all(figure.is_met for outcome in outcomes for figure in outcome.figures()):
        sys.exit(1)
