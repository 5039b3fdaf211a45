"""``cl-serve quantize``: makes smaller and faster variants of a model, and validates them."""

from serve_app.cli.quantize.command import quantize

__all__ = ["quantize"]
