"""The dictionary of all tags, restricted to those asked for, and fit for JSON."""

import fnmatch
import math
from decimal import Decimal

from pydantic import JsonValue

from deployments.exif.algo.values import Values, shortened

MAX_TAGS = 5000
"""Tags in one result. Raw files with all their maker's notes have about 500."""

MAX_ITEMS = 1000
"""Items of one list. Lists are keywords, regions of faces, and steps of editing."""


def raw_metadata(values: Values, tags: tuple[str, ...] = ()) -> dict[str, JsonValue]:
    """Return the tags as plain data that JSON can hold.

    Args:
        values: all that ExifTool found.
        tags: what to keep: ``Name`` in any group or ``Group:Name``, in which ``*`` stands for any
            letters; case does not matter. Empty keeps all.

    Returns:
        At most ``MAX_TAGS`` tags in ExifTool's order; long texts and lists are cut.

    """
    patterns = [(tag if ":" in tag else f"*:{tag}").lower() for tag in tags]
    names = [
        name
        for name in values
        if not patterns or any(fnmatch.fnmatchcase(name.lower(), pattern) for pattern in patterns)
    ]
    return {name: _plain(values[name]) for name in names[:MAX_TAGS]}


def _plain(value: object) -> JsonValue:
    match value:
        case None | bool() | int():
            return value
        case float() | Decimal():
            # ExifTool takes 1e999 for a number; as a float it is infinite.
            return float(value) if math.isfinite(float(value)) else str(value)
        case list():
            return [_plain(item) for item in value[:MAX_ITEMS]]
        case dict():
            return {str(key): _plain(item) for key, item in list(value.items())[:MAX_ITEMS]}
        case _:
            return shortened(str(value))
