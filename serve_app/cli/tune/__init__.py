"""``cl-serve tune``: measures this machine and writes a file that suits it."""

from serve_app.cli.tune.command import tune

__all__ = ["tune"]
