"""Single values of what ExifTool found: text, numbers and dates, or None where they are nonsense.

ExifTool writes JSON without knowing which tags are text: a model called ``350`` comes as a number,
software called ``True`` as a boolean, and a number that a broken file holds may be the word
``undef``. So each value is read as what its field must be.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deployments.runtime.timestamps import from_exif, to_iso

Values = Mapping[str, Any]
"""``Group:Name`` of a tag to its value: str, int, Decimal, bool, or a list of them."""

MAX_TEXT_CHARS = 4096
"""Longer texts are cut. Captions have hundreds of characters; what is longer is editing history
or binary data in disguise."""

_UNKNOWN_NUMBER = 2**32 - 1  # all bits set: what cameras write for "unknown" or "infinite"

# XMP, IPTC and QuickTime have offset and decimals in the date itself; XMP may lack the seconds.
_DATE = re.compile(r"(\d{4}:\d\d:\d\d \d\d:\d\d)(:\d\d)?(?:\.(\d+))?(Z|[+-]\d\d:\d\d)?")

_CLOCK = re.compile(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)")


@dataclass(frozen=True, slots=True)
class DateTag:
    """Where a date is found, and where what belongs to it.

    Attributes:
        name: the tag of the date.
        offset_name: the tag of its offset from UTC.
        subseconds_name: the tag of the decimals of its seconds.
        offset: its offset where neither tag nor text has one, because the format says so.

    """

    name: str
    offset_name: str = ""
    subseconds_name: str = ""
    offset: str | None = None


def text(values: Values, *names: str) -> str | None:
    """Return the first of these tags that is not blank, at most ``MAX_TEXT_CHARS`` long."""
    for name in names:
        found = _text(values.get(name))
        if found:
            return shortened(found)
    return None


def positive(values: Values, *names: str) -> float | None:
    """Return the first of these tags that is a number above 0 and below 2^32 - 1."""
    found = (number(values.get(name)) for name in names)
    return next((one for one in found if one is not None and 0 < one < _UNKNOWN_NUMBER), None)


def size_px(values: Values, *names: str) -> tuple[int, int] | None:
    """Return the first of these tags that is width and height, both from 1 to 2^32 - 2."""
    for name in names:
        found = numbers(values.get(name))[:2]
        if len(found) == 2 and all(1 <= side < _UNKNOWN_NUMBER for side in found):  # noqa: PLR2004 - a pair
            width_px, height_px = found
            return round(width_px), round(height_px)
    return None


def date(values: Values, *tags: DateTag) -> str | None:
    """Return the first of these tags that is a date, in ISO 8601.

    With an offset from UTC if the date, its offset tag or the format says one.
    """
    for tag in tags:
        found = _DATE.fullmatch(_text(values.get(tag.name)))
        if found is None:
            continue
        minutes, seconds, decimals, zone = found.groups()
        moment = from_exif(
            minutes + (seconds or ":00"),
            "+00:00" if zone == "Z" else zone or _text(values.get(tag.offset_name)) or tag.offset,
            decimals or _text(values.get(tag.subseconds_name)),
        )
        if moment is not None:
            return to_iso(moment)
    return None


def duration_s(values: Values, *names: str) -> float | None:
    """Return the first of these tags that is a time above 0: seconds, or ``H:MM:SS.s``."""
    for name in names:
        clock = _CLOCK.fullmatch(_text(values.get(name)))
        if clock is None:
            seconds = positive(values, name)
        else:
            hours, minutes, rest = clock.groups()
            seconds = int(hours) * 3600 + int(minutes) * 60 + float(rest)
        if seconds:
            return seconds
    return None


def numbers(value: object) -> list[float]:
    """Return the finite numbers that a value begins with, for example two for ``"64 48"``."""
    found: list[float] = []
    for word in _text(value).split():
        try:
            one = float(word)
        except ValueError:
            break
        if not math.isfinite(one):
            break
        found.append(one)
    return found


def number(value: object) -> float | None:
    """Return the number that a value begins with; None if it is none, or not finite."""
    return next(iter(numbers(value)), None)


def shortened(value: str) -> str:
    """Cut what is longer than ``MAX_TEXT_CHARS``, and say so with an ellipsis."""
    return value if len(value) <= MAX_TEXT_CHARS else value[: MAX_TEXT_CHARS - 1] + "…"


def _text(value: object) -> str:
    """Return a value, or the first of several, as text without the padding of EXIF."""
    if isinstance(value, list):
        value = value[0] if value else ""
    return "" if value is None else str(value).strip(" \0")
