"""The command group, and the one place where errors become messages and exit codes."""

import sys

import click
from rich.console import Console
from rich.markup import escape

from deployments.runtime.errors import ClServeError
from serve_app.cli.models import models
from serve_app.cli.stack import down, up

EXIT_FAILURE = 1
EXIT_INTERRUPTED = 130


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="cl-ml-serve")
def cli() -> None:
    """Serve photo and video models as one graph, on this machine or a cluster.

    Start with `cl-serve up`: it fetches the default models, starts the graph and shows what it
    finds in a sample photo. `cl-serve down` ends all that it started.
    """


cli.add_command(up)
cli.add_command(down)
cli.add_command(models)


def main() -> None:
    """Run the command; expected errors are shown as a sentence, without a traceback."""
    try:
        cli(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        _complain("interrupted")
        sys.exit(EXIT_INTERRUPTED)
    except ClServeError as error:
        _complain(str(error))
        sys.exit(EXIT_FAILURE)


def _complain(message: str) -> None:
    Console(stderr=True).print(f"[bold red]cl-serve:[/] {escape(message)}", highlight=False)
