"""``cl-serve jobs``: durable jobs of a running graph, over HTTP."""

from serve_app.cli.jobs.command import jobs

__all__ = ["jobs"]
