"""From the tags that ExifTool found to the typed result.

A field is looked for in the tags that can hold it, best one first. Tags have the names of
ExifTool with ``-G -n``: general group, plain numbers, composite tags as ExifTool computes them.
"""

from deployments.exif.algo.raw import raw_metadata
from deployments.exif.algo.values import (
    DateTag,
    Values,
    date,
    duration_s,
    number,
    positive,
    size_px,
    text,
)
from deployments.exif.schema import ExifMetadata
from deployments.runtime.media_type import MediaType

_UTC = "+00:00"  # the QuickTime format's own; some cameras write their local time all the same

_TAKEN = (
    DateTag("EXIF:DateTimeOriginal", "EXIF:OffsetTimeOriginal", "EXIF:SubSecTimeOriginal"),
    DateTag("XMP:DateTimeOriginal"),
    DateTag("XMP:DateCreated"),
    DateTag("Composite:DateTimeCreated"),  # IPTC's date and time
    DateTag("QuickTime:CreationDate"),  # iPhones: local time with its offset
    DateTag("QuickTime:DateTimeOriginal"),
    DateTag("RIFF:DateTimeOriginal"),
    DateTag("Matroska:DateTimeOriginal", offset=_UTC),
)
_CREATED = (
    DateTag("EXIF:CreateDate", "EXIF:OffsetTimeDigitized", "EXIF:SubSecTimeDigitized"),
    DateTag("XMP:CreateDate"),
    DateTag("QuickTime:CreateDate", offset=_UTC),
    DateTag("ASF:CreationDate", offset=_UTC),
)
_MODIFIED = (
    DateTag("EXIF:ModifyDate", "EXIF:OffsetTime", "EXIF:SubSecTime"),
    DateTag("XMP:ModifyDate"),
    DateTag("QuickTime:ModifyDate", offset=_UTC),
)

# EXIF orientation of a turn in degrees: HEIF counts counter-clockwise, video clockwise.
_COUNTER_CLOCKWISE = {0: 1, 90: 8, 180: 3, 270: 6}
_CLOCKWISE = {0: 1, 90: 6, 180: 3, 270: 8}

_HIGHEST_ORIENTATION = 8

_LOWEST_ALTITUDE_M = -12_000  # the deepest sea is 10,935 m deep
_HIGHEST_ALTITUDE_M = 100_000  # where space begins


def to_metadata(
    values: Values,
    media_type: MediaType,
    tags: tuple[str, ...] = (),
) -> ExifMetadata:
    """Interpret the tags of one file.

    Args:
        values: all that ExifTool found.
        media_type: of the file's content.
        tags: restrict the raw dictionary to these; see ``raw_metadata``.

    """
    width_px, height_px = _size_px(values, media_type) or (None, None)
    iso = positive(values, "EXIF:ISO", "XMP:ISO", "Composite:ISO")
    latitude, longitude = _position(values)
    return ExifMetadata(
        media_type=media_type.mime,
        make=text(values, "EXIF:Make", "QuickTime:Make", "XMP:Make"),
        model=text(values, "EXIF:Model", "QuickTime:Model", "XMP:Model"),
        lens_model=text(values, "EXIF:LensModel", "XMP:LensModel", "QuickTime:LensModel"),
        software=text(
            values,
            "EXIF:Software",
            "PNG:Software",
            "QuickTime:Software",
            "XMP:CreatorTool",
        ),
        date_time_original=date(values, *_TAKEN),
        create_date=date(values, *_CREATED),
        modify_date=date(values, *_MODIFIED),
        image_width=width_px,
        image_height=height_px,
        orientation=_orientation(values),
        duration_s=_duration_s(values, media_type),
        iso=None if iso is None else round(iso),
        f_number=positive(values, "EXIF:FNumber", "XMP:FNumber", "Composite:Aperture"),
        exposure_time=positive(
            values,
            "EXIF:ExposureTime",
            "XMP:ExposureTime",
            "Composite:ShutterSpeed",
        ),
        focal_length=positive(values, "EXIF:FocalLength", "XMP:FocalLength"),
        gps_latitude=latitude,
        gps_longitude=longitude,
        gps_altitude=_altitude_m(values),
        raw_metadata=raw_metadata(values, tags),
    )


def _size_px(values: Values, media_type: MediaType) -> tuple[int, int] | None:
    """Width and height as stored. HEIC and AVIF may be coded larger than what they show."""
    cropped = ("QuickTime:CleanAperture",) if media_type.kind == "image" else ()
    return size_px(values, *cropped, "Composite:ImageSize")


def _orientation(values: Values) -> int | None:
    for name in ("EXIF:Orientation", "XMP:Orientation"):
        found = number(values.get(name))
        if found is not None and found in range(1, _HIGHEST_ORIENTATION + 1):
            return int(found)
    for name, by_degrees in (
        ("QuickTime:Rotation", _COUNTER_CLOCKWISE),
        ("Composite:Rotation", _CLOCKWISE),
    ):
        found = number(values.get(name))
        if found in by_degrees:
            return by_degrees[int(found)]
    return None


def _duration_s(values: Values, media_type: MediaType) -> float | None:
    if media_type.kind != "video":
        return None
    return duration_s(
        values,
        "QuickTime:Duration",
        "Matroska:Duration",
        "Composite:Duration",  # AVI
        "ASF:PlayDuration",
        "Flash:Duration",
        "M2TS:Duration",
    )


def _position(values: Values) -> tuple[float | None, float | None]:
    """Latitude and longitude, from one source, since half a position is none.

    EXIF's own are unsigned. ExifTool makes signed ones of them if the file says which hemisphere;
    if it does not, the position is not known.
    """
    for group in ("Composite", "XMP"):
        latitude = number(values.get(f"{group}:GPSLatitude"))
        longitude = number(values.get(f"{group}:GPSLongitude"))
        if latitude is None or longitude is None:
            continue
        if abs(latitude) <= 90 and abs(longitude) <= 180:  # noqa: PLR2004 - degrees
            return latitude, longitude
    return None, None


def _altitude_m(values: Values) -> float | None:
    # Without its reference, EXIF's altitude is above sea level, as that is the default.
    for group in ("Composite", "EXIF", "XMP"):
        altitude_m = number(values.get(f"{group}:GPSAltitude"))
        if altitude_m is None or not _LOWEST_ALTITUDE_M <= altitude_m <= _HIGHEST_ALTITUDE_M:
            continue
        # Of a video, ExifTool 12.57 gives the sign apart; of a photo, not.
        below = group == "Composite" and number(values.get("Composite:GPSAltitudeRef")) == 1
        return -abs(altitude_m) if below else altitude_m
    return None
