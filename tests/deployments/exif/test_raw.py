"""The dictionary of all tags."""

import json
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.exif.algo.raw import MAX_ITEMS, MAX_TAGS, raw_metadata
from deployments.exif.algo.values import MAX_TEXT_CHARS

VALUES = {
    "EXIF:Make": "Acme",
    "EXIF:GPSLatitude": 33.5,
    "XMP:Make": "Other",
    "Composite:GPSLatitude": -33.5,
    "XMP-dc:Title": "Hill",
}

leaves = st.none() | st.booleans() | st.integers() | st.text() | st.binary()
leaves |= st.floats() | st.decimals(allow_nan=False)
nested = st.recursive(leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))


def test_no_tags() -> None:
    """Without tags, nothing is there, whatever is asked for."""
    assert {} == raw_metadata({})
    assert {} == raw_metadata({}, ("Make",))


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ((), list(VALUES)),
        (("Nothing",), []),
        (("Make",), ["EXIF:Make", "XMP:Make"]),
        (("make",), ["EXIF:Make", "XMP:Make"]),
        (("exif:MAKE",), ["EXIF:Make"]),
        (("EXIF:*",), ["EXIF:Make", "EXIF:GPSLatitude"]),
        (("GPS*",), ["EXIF:GPSLatitude", "Composite:GPSLatitude"]),
        (("XMP*:*",), ["XMP:Make", "XMP-dc:Title"]),
        (("EXIF",), []),
        (("*",), list(VALUES)),
        (("Make", "Title", "Make"), ["EXIF:Make", "XMP:Make", "XMP-dc:Title"]),
    ],
)
def test_restriction(tags: tuple[str, ...], expected: list[str]) -> None:
    """Names fit in any group or in one, whatever their case, and keep ExifTool's order."""
    assert expected == list(raw_metadata(VALUES, tags))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, True),
        (5, 5),
        (Decimal("2.80"), 2.8),
        (Decimal("1e999"), "1E+999"),
        (float("nan"), "nan"),
        (0.5, 0.5),
        ("text", "text"),
        (b"\xff", "b'\\xff'"),
        (["a", Decimal("0.5"), [1]], ["a", 0.5, [1]]),
        ({"a": Decimal("0.5")}, {"a": 0.5}),
    ],
)
def test_values(value: object, expected: object) -> None:
    """Values are what JSON knows."""
    assert {"A:B": expected} == raw_metadata({"A:B": value})


def test_sizes() -> None:
    """Long texts, long lists and very many tags are cut."""
    values = {"A:Text": "x" * 10_000, "A:List": list(range(10_000))}
    found = raw_metadata(values | {f"B:{index}": 1 for index in range(10_000)})
    assert "x" * (MAX_TEXT_CHARS - 1) + "…" == found["A:Text"]
    assert list(range(MAX_ITEMS)) == found["A:List"]
    assert MAX_TAGS == len(found)


@settings(max_examples=30)
@given(st.dictionaries(st.text(), nested, max_size=3))
def test_always_json(values: dict[str, object]) -> None:
    """Whatever ExifTool found, strict JSON can hold it."""
    found = raw_metadata(values)
    assert found == json.loads(json.dumps(found, allow_nan=False))
