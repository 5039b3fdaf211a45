"""The service that a command speaks to when none is named."""

from pathlib import Path

import click


def url_of_this_machine(state: Path | None) -> str:
    """Return where the stack of this machine listens. Raises ``ClickException`` when none runs."""
    from serve_app.stack import Stack  # noqa: PLC0415 - a third of the time of --help

    running = Stack(state).running()
    if running is None:
        raise click.ClickException(
            "no stack runs on this machine. Start one with `cl-serve up`, or name a service "
            "with --url",
        )
    return running.url
