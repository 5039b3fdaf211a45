"""Reading server-sent events."""

import json
from typing import Any


def events_of(text: str) -> list[tuple[str, dict[str, Any]]]:
    """Parse server-sent events: kind and data of each; comments are left out."""
    blocks = [block for block in text.split("\n\n") if block and not block.startswith(":")]
    fields = [dict(line.split(": ", 1) for line in block.splitlines()) for block in blocks]
    return [(event["event"], json.loads(event["data"])) for event in fields]
