"""``cl-serve check``: whether a YAML file is right, and what it will start."""

import shlex
from pathlib import Path

import click
from rich.console import Console
from rich.markup import escape

from deployments.runtime.errors import ConfigError
from deployments.runtime.models import quantize_command
from serve_app.app import check_graph
from serve_app.cli.graph_tree import (
    Model,
    graph_tree,
    memory_table,
    models_of,
    plan_of,
)
from serve_app.config import ModelsSpec, load_file
from serve_app.settings import config_folder
from serve_app.stores import open_models


@click.command()
@click.argument(
    "files",
    nargs=-1,
    metavar="[FILE]...",
    type=click.Path(path_type=Path),
)
@click.pass_context
def check(context: click.Context, files: tuple[Path, ...]) -> None:
    """Check YAML files, and show the graph, its memory and its models.

    Needs no cluster and no network. Every mistake is shown with its line; the exit code is 1 when
    there is one. Without FILE, the shipped config/serve.yaml is checked.

    \b
    Examples:
        cl-serve check my.yaml
        cl-serve check config/serve*.yaml
    """  # noqa: D301 - click's \b keeps the lines as they are
    console, complaints = Console(), Console(stderr=True)
    wrong = False
    for i, path in enumerate(files or (config_folder() / "serve.yaml",)):
        if i:
            console.print()
        try:
            _show(path, console)
        except ConfigError as error:
            complaints.print(f"[bold red]{escape(str(path))} is wrong[/]", soft_wrap=True)
            complaints.print(escape(str(error)), soft_wrap=True, highlight=False)
            wrong = True
    context.exit(int(wrong))


def _show(path: Path, console: Console) -> None:
    file = load_file(path)
    store = open_models(file.args.models)
    graph = check_graph(file, store)
    plans = plan_of(file, graph)
    models = models_of(plans, store)
    console.print(f"[bold green]{escape(str(path))} is right[/]", soft_wrap=True)
    console.print(graph_tree(file, plans, models))
    console.print()
    console.print(memory_table(plans, models, jobs=file.args.jobs is not None))
    _show_missing([model for model in models.values() if model.wanting], file.args.models, console)
    for name in (m.variant for m in models.values() if m.variant and not m.made):
        console.print(
            f"{escape(name)} is to be made on this machine. Until then, what needs it answers 503:"
        )
        command = f"{quantize_command(name)} --config {shlex.quote(str(path))}"
        console.print(f"  {escape(command)}", soft_wrap=True, highlight=False)


def _show_missing(models: list[Model], spec: ModelsSpec, console: Console) -> None:
    """Name the models that are not here, and the commands that fetch them."""
    if not models:
        console.print("Every model is installed.")
    options: list[str] = []
    for option, value in (("--catalogue", spec.catalogue), ("--cache", spec.cache)):
        options += [option, value] if value else []
    bound = [model for model in models if not model.entry.licence.commercial_use]
    free = [model for model in models if model not in bound]
    licences = escape(", ".join(sorted({model.entry.licence.id for model in bound})))
    fetch = "`cl-serve up` fetches what is missing; to fetch it now:"
    agree = (
        f"The licence ({licences}) permits no commercial use and needs your consent. Until then, "
        "what needs these models answers 503:"
    )
    for some, text, consent in ((free, fetch, []), (bound, agree, ["--accept-licence"])):
        if some:
            names = [model.entry.name for model in some]
            command = shlex.join(["cl-serve", "models", *options, "pull", *names, *consent])
            console.print(text)
            console.print(f"  {escape(command)}", soft_wrap=True, highlight=False)
