"""Parameters and result of the metadata reader."""

import json
from dataclasses import fields

import pytest
from pydantic import TypeAdapter, ValidationError

from deployments.exif import ExifMetadata, ExifParams
from deployments.exif.algo.metadata import to_metadata
from deployments.exif.schema import MAX_TAG_CHARS, MAX_TAGS_ASKED
from deployments.runtime.media_type import MediaType

JPEG = MediaType("image/jpeg", "image")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("", ()),
        ((), ()),
        ([""], ()),
        (" , ", ()),
        ("Make", ("Make",)),
        ("Make,Model", ("Make", "Model")),
        (" Make , EXIF:Model,", ("Make", "EXIF:Model")),
        (["Make", "GPS*"], ("Make", "GPS*")),
        (["Make,Model", "XMP:*"], ("Make", "Model", "XMP:*")),
        (("XMP-dc:Title", "Comment-fr_FR", "*"), ("XMP-dc:Title", "Comment-fr_FR", "*")),
    ],
)
def test_tags(given: object, expected: tuple[str, ...]) -> None:
    """Tags come as one text with commas, repeated, or both."""
    assert expected == ExifParams.model_validate({"tags": given}).tags


def test_defaults() -> None:
    """Nothing needs to be given, and validated tags validate again."""
    assert () == ExifParams().tags
    params = ExifParams(tags=("Make", "EXIF:*"))
    assert params == ExifParams.model_validate(params.model_dump())


@pytest.mark.parametrize(
    "tag",
    [
        "-@",
        "-execute",
        "-TagsFromFile",
        "-if",
        "-o",
        "-w",
        "-Make",
        "--Make",
        "Make=Evil",
        "Make<FileName",
        "Make>x",
        "Make\n-execute",
        "Make\0",
        "Make#",
        "${Make}",
        "@/etc/passwd",
        "/etc/passwd",
        "../x",
        "a b",
        "a;b",
        "a|b",
        "[a-z]",
        "Ma?e",
        "é",
        ":",
        "EXIF:",
        ":Make",
        "EXIF:-Make",
        "a:b:c",
    ],
)
def test_injection(tag: str) -> None:
    """What is no tag's name is refused, above all what ExifTool would take for an option."""
    for given in (tag, [tag], ["Make", tag]):
        with pytest.raises(ValidationError):
            ExifParams.model_validate({"tags": given})


@pytest.mark.parametrize(
    "wrong",
    [
        {"tags": 5},
        {"tags": None},
        {"tags": [5]},
        {"tags": {"Make": "x"}},
        {"tags": "x" * (MAX_TAG_CHARS + 1)},
        {"tags": ",".join(["Make"] * (MAX_TAGS_ASKED + 1))},
        {"tag": "Make"},
    ],
)
def test_wrong_parameters(wrong: dict[str, object]) -> None:
    """Other types, too long or too many names, and unknown parameters are refused."""
    with pytest.raises(ValidationError):
        ExifParams.model_validate(wrong)


def test_limits() -> None:
    """As many and as long names as allowed are taken."""
    tags = ("x" * MAX_TAG_CHARS,) * MAX_TAGS_ASKED
    assert tags == ExifParams.model_validate({"tags": ",".join(tags)}).tags


def test_json_schema() -> None:
    """The parameter is documented as a list of names, and the result with all its fields."""
    tags = ExifParams.model_json_schema()["properties"]["tags"]
    assert ("array", "string") == (tags["type"], tags["items"]["type"])
    properties = TypeAdapter(ExifMetadata).json_schema()["properties"]
    assert [field.name for field in fields(ExifMetadata)] == list(properties)


def test_fields_of_the_job_protocol() -> None:
    """The result has each field that existing clients read, under its name."""
    known = {
        *("make", "model", "date_time_original", "create_date", "image_width", "image_height"),
        *("orientation", "iso", "f_number", "exposure_time", "focal_length", "gps_latitude"),
        *("gps_longitude", "gps_altitude", "software", "raw_metadata"),
    }
    assert set() == known - {field.name for field in fields(ExifMetadata)}


def test_empty_result() -> None:
    """Without any tag, all is None but the media type and an empty dictionary."""
    empty = json.loads(TypeAdapter(ExifMetadata).dump_json(to_metadata({}, JPEG)))
    assert ("image/jpeg", {}) == (empty.pop("media_type"), empty.pop("raw_metadata"))
    assert {None} == set(empty.values())


def test_wire() -> None:
    """A result goes to JSON and back."""
    adapter = TypeAdapter(ExifMetadata)
    values = {"EXIF:Make": "Acme", "EXIF:ISO": 100, "XMP:Subject": ["a", 1, True]}
    result = to_metadata(values, JPEG)
    assert result == adapter.validate_json(adapter.dump_json(result))
