"""``cl-serve analyze``: sends files to a running graph and keeps what comes back."""

from serve_app.cli.analyze.command import analyze

__all__ = ["analyze"]
