"""Hashes: of a file's bytes, of what it shows, and of how it looks."""

from deployments.hash.capability import Hash
from deployments.hash.schema import Hashes, HashParams

__all__ = ["Hash", "HashParams", "Hashes"]
