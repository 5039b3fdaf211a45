"""Facts of a file in a store."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StoredFile:
    """Its size, when it was written (seconds since 1970), and what changes with it, for HTTP."""

    size_bytes: int
    modified_s: float
    etag: str
