"""Points in time: milliseconds since the epoch, ISO 8601 text, and the dates that cameras write.

A camera's clock has often no known offset from UTC. Such a time stays naive, and its ISO 8601
text has no offset, because guessing one would move the photo by hours.
"""

import re
import time
from datetime import UTC, datetime, timedelta, timezone

_EXIF_DATE = re.compile(r"(\d{4})[:-](\d\d)[:-](\d\d)[ T](\d\d):(\d\d):(\d\d)")
_EXIF_OFFSET = re.compile(r"([+-])(\d\d):(\d\d)")
_EPOCH = datetime.fromtimestamp(0, UTC)


def now_ms() -> int:
    """Milliseconds since 1970-01-01T00:00Z, by this machine's clock."""
    return time.time_ns() // 1_000_000


def from_ms(epoch_ms: int) -> datetime:
    """Milliseconds since the epoch as a time in UTC; exact, before 1970 as well."""
    return _EPOCH + timedelta(milliseconds=epoch_ms)


def to_ms(moment: datetime) -> int:
    """Milliseconds since the epoch, the rest cut off.

    Raises:
        ValueError: the time is naive, so it is no point in time yet.

    """
    if moment.utcoffset() is None:
        raise ValueError(f"expected a time with an offset from UTC, got {moment.isoformat()}")
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def to_iso(moment: datetime) -> str:
    """ISO 8601 text: ``2024-05-01T10:20:30+02:00``, or without the offset for a naive time."""
    return moment.isoformat()


def from_iso(text: str) -> datetime:
    """Read ISO 8601 text; naive when it has no offset.

    Raises:
        ValueError: the text is not ISO 8601.

    """
    return datetime.fromisoformat(text)


def from_exif(
    date: str,
    offset: str | None = None,
    subseconds: str | None = None,
) -> datetime | None:
    """Read the date that a camera wrote.

    Cameras without a set clock write blanks or zeros, and some write nonsense; neither is worth
    an error. A broken offset or broken subseconds count as not given.

    Args:
        date: ``DateTimeOriginal`` or a sibling, as ``YYYY:MM:DD HH:MM:SS``.
        offset: ``OffsetTimeOriginal``, as ``+02:00``.
        subseconds: ``SubSecTimeOriginal``, the decimals of the second, as ``"5"`` for half a
            second.

    Returns:
        The time, aware when the offset is known; None when there is no readable date.

    """
    # Fixed-length EXIF text ends in NUL and is padded with blanks.
    found = _EXIF_DATE.fullmatch(date.strip(" \0"))
    if found is None:
        return None
    decimals = (subseconds or "").strip(" \0")
    # ASCII only: str.isdigit also takes digits that int() refuses, such as superscripts.
    microsecond = int(decimals[:6].ljust(6, "0")) if re.fullmatch(r"[0-9]+", decimals) else 0
    year, month, day, hour, minute, second = map(int, found.groups())
    try:
        return datetime(
            year,
            month,
            day,
            hour,
            minute,
            second,
            microsecond,
            tzinfo=_exif_offset(offset or ""),
        )
    except ValueError:  # 0000:00:00, or the 31st of June
        return None


def _exif_offset(text: str) -> timezone | None:
    found = _EXIF_OFFSET.fullmatch(text.strip(" \0"))
    if found is None:
        return None
    sign, hours, minutes = found.groups()
    offset = timedelta(hours=int(hours), minutes=int(minutes))
    if offset >= timedelta(days=1):
        return None
    return timezone(-offset if sign == "-" else offset)
