"""Commands of measurements behind single decisions."""

from pathlib import Path

import click
from rich.console import Console

from benchmarks.cli.common import (
    config_option,
    out_option,
    quick_option,
    seconds_option,
    warn_if_busy,
    write,
)
from benchmarks.load.run import Timing
from benchmarks.progress import steps
from benchmarks.report.tables import layouts_table, policies_table
from benchmarks.studies import hosting, policies

_CLIENTS = 8


@click.command()
@out_option
@quick_option
@config_option
@seconds_option(12.0)
def hosts(*, out: Path, quick: bool, config: Path, seconds: float) -> None:
    """Compare ways to spread the face nodes over deployments, on the small photo.

    Every layout is a stack of its own, made from the YAML file by changing `hosts` and
    `replicas`. Takes about ten minutes. docs/decisions/0003-hosting.md draws the conclusion.
    """
    timing = Timing(_CLIENTS, 1.0, 3.0) if quick else Timing(_CLIENTS, 3.0, seconds)
    console = Console()
    busy = warn_if_busy(console)
    with steps(console, hosting.expected_s(timing)) as progress:
        rows = hosting.compare(config, timing, progress)
    console.print(layouts_table(rows, _CLIENTS))
    write(console, out / "hosts.json", busy, {"seconds": timing.seconds, "layouts": rows})


@click.command()
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
