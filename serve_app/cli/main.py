"""The command group, and the one place where errors become messages and exit codes."""

import sys
from importlib import import_module

import click
from rich.console import Console
from rich.markup import escape

from deployments.runtime.errors import ClServeError

EXIT_FAILURE = 1
EXIT_INTERRUPTED = 130

COMMANDS = {
    "up": "serve_app.cli.stack:up",
    "down": "serve_app.cli.stack:down",
    "deploy": "serve_app.cli.deploy:deploy",
    "diff": "serve_app.cli.deploy:diff",
    "rollback": "serve_app.cli.deploy:rollback",
    "status": "serve_app.cli.status:status",
    "logs": "serve_app.cli.logs:logs",
    "check": "serve_app.cli.check:check",
    "tune": "serve_app.cli.tune:tune",
    "node": "serve_app.cli.node:node",
    "models": "serve_app.cli.models:models",
    "quantize": "serve_app.cli.quantize:quantize",
    "analyze": "serve_app.cli.analyze:analyze",
    "jobs": "serve_app.cli.jobs:jobs",
    "systemd": "serve_app.cli.systemd:systemd",
}
"""Command to where it is; imported when it is called, since importing Ray takes seconds on a Pi."""


class LazyGroup(click.Group):
    """Loads a command's module when the command is called, or shown in the help."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name all commands, in the order in which one needs them."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load one command."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name].partition(":")
        return getattr(import_module(module), attribute)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="cl-ml-serve")
def cli() -> None:
    """Serve photo and video models as one graph, on this machine or a cluster.

    Start with `cl-serve up`: it fetches the default models, starts the graph and shows what it
    finds in a sample photo. `cl-serve down` ends all that it started.
    """


def main() -> None:
    """Run the command; expected errors are shown as a sentence, without a traceback."""
    try:
        code = cli(standalone_mode=False)  # what a command gave to ``ctx.exit``, else None
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        _complain("interrupted")
        sys.exit(EXIT_INTERRUPTED)
    except ClServeError as error:
        _complain(str(error))
        sys.exit(EXIT_FAILURE)
    sys.exit(code or 0)


def _complain(message: str) -> None:
    Console(stderr=True).print(f"[bold red]cl-serve:[/] {escape(message)}", highlight=False)
