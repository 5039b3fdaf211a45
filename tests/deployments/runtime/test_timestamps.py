"""Times: milliseconds, ISO 8601 and what cameras write."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.runtime.timestamps import from_exif, from_iso, from_ms, now_ms, to_iso, to_ms


def test_now_is_now() -> None:
    """The clock's milliseconds are between two readings of the standard library's clock."""
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    assert before <= from_ms(now_ms()) <= datetime.now(UTC)


@pytest.mark.parametrize(
    ("epoch_ms", "iso"),
    [
        (0, "1970-01-01T00:00:00+00:00"),
        (1, "1970-01-01T00:00:00.001000+00:00"),
        (-1, "1969-12-31T23:59:59.999000+00:00"),
        (1_714_552_830_250, "2024-05-01T08:40:30.250000+00:00"),
    ],
)
def test_milliseconds(epoch_ms: int, iso: str) -> None:
    """Milliseconds and ISO 8601 text in UTC say the same."""
    assert iso == to_iso(from_ms(epoch_ms))
    assert epoch_ms == to_ms(from_iso(iso))


@given(st.integers(-62_135_596_800_000, 253_402_300_799_999))
def test_milliseconds_round_trip(epoch_ms: int) -> None:
    """Every millisecond that a datetime can hold survives, to the last one."""
    assert epoch_ms == to_ms(from_ms(epoch_ms))


def test_offsets_are_counted() -> None:
    """The same moment at another offset has the same milliseconds."""
    assert to_ms(from_iso("2024-05-01T10:00:00+02:00")) == to_ms(from_iso("2024-05-01T08:00:00Z"))


def test_naive_time_is_no_moment() -> None:
    """A time without an offset has no milliseconds since the epoch."""
    with pytest.raises(ValueError, match="expected a time with an offset"):
        to_ms(datetime(2024, 5, 1))  # noqa: DTZ001 - naive is the point


def test_broken_iso() -> None:
    """Text that is not ISO 8601 is refused."""
    with pytest.raises(ValueError, match="yesterday"):
        from_iso("yesterday")


@pytest.mark.parametrize(
    ("date", "offset", "subseconds", "expected"),
    [
        ("2024:05:01 10:20:30", None, None, "2024-05-01T10:20:30"),
        ("2024:05:01 10:20:30", "+02:00", None, "2024-05-01T10:20:30+02:00"),
        ("2024:05:01 10:20:30", "-09:30", None, "2024-05-01T10:20:30-09:30"),
        ("2024:05:01 10:20:30", "+00:00", "25", "2024-05-01T10:20:30.250000+00:00"),
        ("2024:05:01 10:20:30", None, "5  ", "2024-05-01T10:20:30.500000"),
        ("2024:05:01 10:20:30", None, "1234567", "2024-05-01T10:20:30.123456"),
        ("2024:05:01 10:20:30\0", "+02:00\0", "\0", "2024-05-01T10:20:30+02:00"),
        ("2024-05-01T10:20:30", None, None, "2024-05-01T10:20:30"),
        ("2024:05:01 10:20:30", "   :  ", "   ", "2024-05-01T10:20:30"),
        ("2024:05:01 10:20:30", "+99:00", "\u00b2", "2024-05-01T10:20:30"),
        ("2024:05:01 10:20:30", "Z", "-1", "2024-05-01T10:20:30"),
    ],
)
def test_exif_date(date: str, offset: str | None, subseconds: str | None, expected: str) -> None:
    """A camera's date is read as exactly as it was written, and no more exactly."""
    moment = from_exif(date, offset, subseconds)
    assert moment is not None
    assert expected == to_iso(moment)
    assert moment == from_iso(to_iso(moment))


@pytest.mark.parametrize(
    "date",
    [
        "",
        "    :  :     :  :  ",
        "0000:00:00 00:00:00",
        "2024:06:31 10:20:30",
        "2024:05:01 24:00:00",
        "2024:05:01",
        "2024:05:01 10:20:30 and more",
        "\u0662\u0660\u0662\u0664:13:01 10:20:30",
    ],
)
def test_no_exif_date(date: str) -> None:
    """A clock that was never set, or nonsense, is no date and no error."""
    assert from_exif(date) is None


@given(st.text(), st.text(), st.text())
def test_exif_never_raises(date: str, offset: str, subseconds: str) -> None:
    """Whatever text a file holds, reading it does not fail."""
    from_exif(date, offset, subseconds)
    from_exif("2024:05:01 10:20:30", offset, subseconds)


def test_offset_is_kept() -> None:
    """The camera's own offset stays, so that the local time can be shown."""
    moment = from_exif("2024:05:01 10:20:30", "+05:45")
    assert moment is not None
    assert timezone(timedelta(hours=5, minutes=45)) == moment.tzinfo
