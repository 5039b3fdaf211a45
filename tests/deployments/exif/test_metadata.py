"""From tags to the typed result: which tag counts, and what is nonsense."""

from decimal import Decimal

import pytest

from deployments.exif.algo.metadata import to_metadata
from deployments.runtime.media_type import MediaType

JPEG = MediaType("image/jpeg", "image")
HEIC = MediaType("image/heic", "image")
MP4 = MediaType("video/mp4", "video")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, (None, None)),
        ({"EXIF:GPSLatitude": 33.5, "EXIF:GPSLongitude": 70.25}, (None, None)),
        ({"Composite:GPSLatitude": -33.5}, (None, None)),
        ({"Composite:GPSLatitude": -33.5, "XMP:GPSLongitude": 70.25}, (None, None)),
        ({"Composite:GPSLatitude": -33.5, "Composite:GPSLongitude": 70.25}, (-33.5, 70.25)),
        ({"Composite:GPSLatitude": 90, "Composite:GPSLongitude": -180}, (90, -180)),
        ({"Composite:GPSLatitude": 90.1, "Composite:GPSLongitude": 0}, (None, None)),
        ({"Composite:GPSLatitude": 0, "Composite:GPSLongitude": 180.1}, (None, None)),
        ({"Composite:GPSLatitude": "undef", "Composite:GPSLongitude": "inf"}, (None, None)),
        ({"XMP:GPSLatitude": -12.5, "XMP:GPSLongitude": Decimal("30.25")}, (-12.5, 30.25)),
    ],
)
def test_position(
    values: dict[str, object],
    expected: tuple[float | None, float | None],
) -> None:
    """A position is signed, whole, and on this planet."""
    found = to_metadata(values, JPEG)
    assert expected == (found.gps_latitude, found.gps_longitude)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, None),
        ({"Composite:GPSAltitude": -12.5}, -12.5),
        ({"Composite:GPSAltitude": 12.5, "Composite:GPSAltitudeRef": 0}, 12.5),
        ({"Composite:GPSAltitude": 12.5, "Composite:GPSAltitudeRef": 1}, -12.5),
        ({"Composite:GPSAltitude": -12.5, "Composite:GPSAltitudeRef": 1}, -12.5),
        ({"EXIF:GPSAltitude": 12.5}, 12.5),
        ({"EXIF:GPSAltitude": 4294967295}, None),
        ({"EXIF:GPSAltitude": "undef", "XMP:GPSAltitude": 7}, 7),
        ({"Composite:GPSAltitude": 0}, 0),
    ],
)
def test_altitude(values: dict[str, object], expected: float | None) -> None:
    """Below the sea is negative, and past the sky is nonsense."""
    assert expected == to_metadata(values, JPEG).gps_altitude


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, None),
        ({"EXIF:Orientation": 0}, None),
        ({"EXIF:Orientation": 9}, None),
        ({"EXIF:Orientation": "Horizontal (normal)"}, None),
        ({"EXIF:Orientation": 2.5}, None),
        ({"EXIF:Orientation": 8}, 8),
        ({"EXIF:Orientation": 0, "XMP:Orientation": 3}, 3),
        ({"EXIF:Orientation": 6, "QuickTime:Rotation": 0}, 6),
        ({"QuickTime:Rotation": 0}, 1),
        ({"QuickTime:Rotation": 90}, 8),
        ({"QuickTime:Rotation": 180}, 3),
        ({"QuickTime:Rotation": 270}, 6),
        ({"Composite:Rotation": 90}, 6),
        ({"Composite:Rotation": 270}, 8),
        ({"Composite:Rotation": 45}, None),
    ],
)
def test_orientation(values: dict[str, object], expected: int | None) -> None:
    """Orientation is 1 to 8, from EXIF or else from the container's rotation."""
    assert expected == to_metadata(values, JPEG).orientation


@pytest.mark.parametrize(
    ("values", "media_type", "expected"),
    [
        ({}, JPEG, (None, None)),
        ({"Composite:ImageSize": "64 48"}, JPEG, (64, 48)),
        ({"Composite:ImageSize": "64 64", "QuickTime:CleanAperture": "64 48 0 -8"}, HEIC, (64, 48)),
        ({"Composite:ImageSize": "64 64", "QuickTime:CleanAperture": "64 48 0 -8"}, MP4, (64, 64)),
        ({"Composite:ImageSize": "0 0"}, JPEG, (None, None)),
    ],
)
def test_size(
    values: dict[str, object],
    media_type: MediaType,
    expected: tuple[int | None, int | None],
) -> None:
    """A size is as stored; of HEIC it is that of what is shown, not of the coded blocks."""
    found = to_metadata(values, media_type)
    assert expected == (found.image_width, found.image_height)


@pytest.mark.parametrize(
    ("values", "media_type", "expected"),
    [
        ({}, MP4, None),
        ({"QuickTime:Duration": Decimal("0.4")}, MP4, 0.4),
        ({"Matroska:Duration": "00:01:00.500000000"}, MP4, 60.5),
        ({"Composite:Duration": 7}, MP4, 7),
        ({"QuickTime:Duration": 0}, MP4, None),
        ({"QuickTime:Duration": 2}, HEIC, None),
    ],
)
def test_duration(
    values: dict[str, object],
    media_type: MediaType,
    expected: float | None,
) -> None:
    """A duration is a video's; a photo has none."""
    assert expected == to_metadata(values, media_type).duration_s


def test_exposure() -> None:
    """Exposure is plain numbers in seconds, millimetres and f-numbers."""
    values = {
        "EXIF:ISO": "200 0",
        "EXIF:FNumber": Decimal("2.8"),
        "EXIF:ExposureTime": Decimal("0.004"),
        "EXIF:FocalLength": 50,
    }
    found = to_metadata(values, JPEG)
    assert (200, 2.8, 0.004, 50) == (
        found.iso,
        found.f_number,
        found.exposure_time,
        found.focal_length,
    )


def test_nonsense_exposure() -> None:
    """Text, zero, infinity and negative numbers are no exposure."""
    values = {
        "EXIF:ISO": "auto",
        "EXIF:FNumber": "inf",
        "EXIF:ExposureTime": -1,
        "EXIF:FocalLength": 0,
    }
    found = to_metadata(values, JPEG)
    exposure = (found.iso, found.f_number, found.exposure_time, found.focal_length)
    assert (None, None, None, None) == exposure


def test_quicktime_dates() -> None:
    """QuickTime's own dates are UTC; the one that iPhones add is local time with its offset."""
    values = {
        "QuickTime:CreationDate": "2024:05:01 10:20:30+02:00",
        "QuickTime:CreateDate": "2024:05:01 08:20:30",
        "QuickTime:ModifyDate": "0000:00:00 00:00:00",
    }
    found = to_metadata(values, MP4)
    assert "2024-05-01T10:20:30+02:00" == found.date_time_original
    assert "2024-05-01T08:20:30+00:00" == found.create_date
    assert None is found.modify_date


def test_tags_restrict_the_raw_dictionary_only() -> None:
    """Typed fields are given whatever tags are asked for."""
    values = {"EXIF:Make": "Acme", "EXIF:Model": "A1"}
    found = to_metadata(values, JPEG, ("Model",))
    assert ("Acme", {"EXIF:Model": "A1"}) == (found.make, found.raw_metadata)
