"""Single values of what ExifTool found."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.exif.algo.values import (
    MAX_TEXT_CHARS,
    DateTag,
    date,
    duration_s,
    number,
    positive,
    size_px,
    text,
)

anything = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.decimals(),
    st.text(),
    st.lists(st.text(), max_size=3),
    st.dictionaries(st.text(), st.text(), max_size=3),
)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ("", None),
        ([], None),
        (" \0 ", None),
        ("Acme", "Acme"),
        ("Acme  \0", "Acme"),
        (350, "350"),
        (Decimal("15.10"), "15.10"),
        (True, "True"),
        (["first", "second"], "first"),
        ("x" * 5000, "x" * (MAX_TEXT_CHARS - 1) + "…"),
    ],
)
def test_text(value: object, expected: str | None) -> None:
    """Text is what was written, even where JSON made a number of it, and not too long."""
    assert expected == text({"A": value}, "A")


def test_first_usable_tag_counts() -> None:
    """Tags without a usable value are passed over."""
    values = {"A": "", "B": "undef", "C": 0, "D": 5, "E": 6}
    assert "undef" == text(values, "A", "B", "D")
    assert 5 == positive(values, "missing", "A", "B", "C", "D", "E")
    assert 5 == duration_s(values, "missing", "A", "B", "C", "D", "E")
    assert (5, 6) == size_px({"A": "5", "B": "0 6", "C": "5 6 7"}, "A", "B", "C")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ("", None),
        ([], None),
        ("undef", None),
        ("inf", None),
        ("-Infinity", None),
        ("nan", None),
        (Decimal("1e999"), None),
        (True, None),
        ("f/2.8", None),
        ({"a": 1}, None),
        (0, 0.0),
        (-5, -5.0),
        (Decimal("2.80"), 2.8),
        ("100 200", 100.0),
        ([100, 200], 100.0),
    ],
)
def test_number(value: object, expected: float | None) -> None:
    """Numbers are finite, and text is none."""
    assert expected == number(value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, None), (0, None), (-1, None), (2**32 - 1, None), ("x", None), (2**32 - 2, 4294967294)],
)
def test_positive(value: object, expected: float | None) -> None:
    """Zero, negative numbers and EXIF's "unknown" are no value."""
    assert expected == positive({"A": value}, "A")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ("", None),
        ("64", None),
        ("0 48", None),
        ("64 inf", None),
        ("64 48", (64, 48)),
        ("64 48 0 -8", (64, 48)),
    ],
)
def test_size(value: object, expected: tuple[int, int] | None) -> None:
    """A size is two numbers that are pixels."""
    assert expected == size_px({"A": value}, "A")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (0, None),
        ("0:00:00", None),
        ("long", None),
        (Decimal("0.4"), 0.4),
        ("00:00:00.400000000", 0.4),
        ("1:02:03.5", 3723.5),
    ],
)
def test_duration(value: object, expected: float | None) -> None:
    """A duration is seconds, or hours with minutes and seconds."""
    assert expected == duration_s({"A": value}, "A")


@pytest.mark.parametrize(
    ("value", "offset", "subseconds", "expected"),
    [
        (None, None, None, None),
        ("", None, None, None),
        ("0000:00:00 00:00:00", None, None, None),
        ("    :  :     :  :  ", None, None, None),
        ("2024:13:01 10:20:30", None, None, None),
        ("2024:06:31 10:20:30", None, None, None),
        ("2024:05:01", None, None, None),
        ("yesterday", None, None, None),
        (20240501, None, None, None),
        ("2024:05:01 10:20:30", None, None, "2024-05-01T10:20:30"),
        ("2024:05:01 10:20:30\0", None, None, "2024-05-01T10:20:30"),
        ("2024:05:01 10:20:30", "+02:00", None, "2024-05-01T10:20:30+02:00"),
        ("2024:05:01 10:20:30", "-03:30", "5", "2024-05-01T10:20:30.500000-03:30"),
        ("2024:05:01 10:20:30", None, 123456, "2024-05-01T10:20:30.123456"),
        ("2024:05:01 10:20:30", None, "050", "2024-05-01T10:20:30.050000"),
        ("2024:05:01 10:20:30", "nonsense", "many", "2024-05-01T10:20:30"),
        ("2024:05:01 10:20:30.25+01:00", "+02:00", "9", "2024-05-01T10:20:30.250000+01:00"),
        ("2024:05:01 10:20:30Z", None, None, "2024-05-01T10:20:30+00:00"),
        ("2024:05:01 10:20+02:00", None, None, "2024-05-01T10:20:00+02:00"),
        ("2024:05:01 10:20:60", None, None, None),
    ],
)
def test_date(value: object, offset: object, subseconds: object, expected: str | None) -> None:
    """Dates are ISO 8601, with decimals and offset where the file has them."""
    values = {"A": value, "Offset": offset, "SubSec": subseconds}
    assert expected == date(values, DateTag("A", "Offset", "SubSec"))


def test_date_of_a_format_in_utc() -> None:
    """The format's own offset holds where the text has none."""
    tag = DateTag("A", offset="+00:00")
    assert "2024-05-01T10:20:30+00:00" == date({"A": "2024:05:01 10:20:30"}, tag)
    assert "2024-05-01T10:20:30+02:00" == date({"A": "2024:05:01 10:20:30+02:00"}, tag)


def test_first_usable_date_counts() -> None:
    """A clock that was never set does not hide the next tag."""
    values = {"A": "0000:00:00 00:00:00", "B": "2024:05:01 10:20:30"}
    assert "2024-05-01T10:20:30" == date(values, DateTag("A"), DateTag("B"))


@given(anything)
def test_nothing_raises(value: object) -> None:
    """Whatever a value is, it is read as what it should be or as None."""
    values = {"A": value}
    for read in (text, positive, size_px, duration_s):
        read(values, "A")
    date(values, DateTag("A", "A", "A"))
    assert not isinstance(number(value), bool)
