"""``cl-serve quantize``: the command itself, from its options to what is kept."""

import tempfile
from pathlib import Path

import click
from rich.console import Console
from rich.markup import escape

from deployments.runtime.capability import installed_capabilities
from deployments.runtime.errors import ConfigError
from deployments.runtime.models import (
    VARIANT_NAMES,
    VariantName,
    split_name,
)
from deployments.runtime.quantization import Making, best, make, this_processor
from serve_app.cli.quantize.photos import Jury, Photos, choose, node_for, prepare
from serve_app.cli.quantize.progress import bar
from serve_app.cli.variants import attempts_table
from serve_app.config import load_file
from serve_app.graph import Graph
from serve_app.settings import config_folder
from serve_app.stores import open_models

DEFAULT_PHOTOS = 150
"""Of a folder: scales from a hundred photos are as good as from thousands, and preparing them takes
a Pi minutes."""

FEW_PHOTOS = 50
"""Below that the validation is said to mean little."""


@click.command()
@click.argument("model")
@click.option(
    "--calibration",
    required=True,
    metavar="FOLDER",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Photos such as the model will be used on; folders below are searched too.",
)
@click.option(
    "--method",
    "methods",
    multiple=True,
    type=click.Choice(VARIANT_NAMES),
    help="Make this variant only; may be repeated.  [default: all, and the best is kept]",
)
@click.option(
    "--photos",
    "limit",
    type=click.IntRange(min=6),
    default=DEFAULT_PHOTOS,
    show_default=True,
    help="How many photos of the folder to take at most.",
)
@click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The YAML whose graph prepares photos for the model.  [default: the shipped serve.yaml]",
)
@click.option(
    "--keep-unvalidated",
    is_flag=True,
    help="Where no variant passes, keep the most accurate; it needs allow_unvalidated: true.",
)
def quantize(  # noqa: PLR0913 - one for each option
    *,
    model: str,
    calibration: Path,
    methods: tuple[VariantName, ...],
    limit: int,
    config: Path | None,
    keep_unvalidated: bool,
) -> None:
    """Make variants of MODEL that are smaller or faster on this machine, and keep the best.

    Three are tried: `int8` with scales from the photos and sensitive layers left in float32,
    `int8_dynamic` without calibration, and `float16` weights. Each is compared with the model
    itself on photos that it was not made from. Only one that agrees, and is faster or smaller, is
    kept. It takes minutes, on a Pi up to an hour.

    \b
    Examples:
        cl-serve quantize mobilefacenet --calibration ~/Pictures
        cl-serve quantize dinov2_vits14 --calibration ~/Pictures --method int8_dynamic
    Use what was kept, in the YAML:
        face_embedding: {needs: [face_alignment], model: mobilefacenet@int8}
    """  # noqa: D301 - click's \b keeps the lines as they are
    console = Console()
    base, variant = split_name(model)
    if variant is not None:
        raise ConfigError(f"{model}: expected a model, got a variant; name {base!r}")
    file = load_file(config or config_folder() / "serve.yaml")
    store = open_models(file.args.models)
    store.path(model)
    graph = Graph(file.args, installed_capabilities())
    node = node_for(graph, store, model)
    files = choose(calibration, limit)
    with bar(console) as progress:
        done = iter(range(1, len(files) + 1))
        photos = prepare(
            files,
            graph,
            node,
            store,
            lambda: progress.show("preparing photos", next(done) / len(files)),
        )
    _show_photos(photos, len(files), console)
    with bar(console) as progress, tempfile.TemporaryDirectory() as scratch:
        progress.show("running float32", 0.0)
        learnt, held_out = (
            Jury(node, store, model, works) for works in (photos.calibration, photos.held_out)
        )
        making = Making(
            base=store.path(model),
            calibration=learnt.rows,
            held_out=held_out.rows,
            judge_calibration=learnt.judge,
            judge_held_out=held_out.judge,
            processor=this_processor(),
        )
        candidates = [
            make(
                name,
                making,
                Path(scratch) / f"{name}.onnx",
                lambda text, share, name=name: progress.show(f"{name}: {text}", share),
            )
            for name in methods or VARIANT_NAMES
        ]
        console.print(attempts_table(model, [candidate.attempt for candidate in candidates]))
        chosen = best(candidates, unvalidated=keep_unvalidated)
        if chosen is None or chosen.file is None:
            raise click.ClickException(
                f"no variant of {model} may be served on this machine; nothing was kept. More "
                "photos may help; --keep-unvalidated keeps the most accurate all the same"
            )
        report = store.variants(model).keep(
            chosen.file,
            chosen.attempt.variant,
            tuple(candidate.attempt for candidate in candidates),
            photos=(len(photos.calibration), len(photos.held_out)),
            processor=making.processor.title,
        )
    console.print(f"Kept [bold]{escape(report.name)}[/]. Use it in the YAML, at the node's key:")
    console.print(f"  {node.name}: {{…, model: {report.name}}}", highlight=False, soft_wrap=True)
    if not chosen.attempt.passed:
        console.print("[yellow]It failed its validation, so it needs allow_unvalidated: true.[/]")


def _show_photos(photos: Photos, found: int, console: Console) -> None:
    learnt, held_out = len(photos.calibration), len(photos.held_out)
    console.print(
        f"{found} photos: {learnt} to calibrate with, {held_out} held out to validate on, "
        f"{photos.skipped} with nothing for the model",
        highlight=False,
    )
    if len(photos.works) < FEW_PHOTOS:
        console.print(
            f"[yellow]These are few: with fewer than {FEW_PHOTOS}, a variant that passes may "
            "still be wrong on others.[/]"
        )
