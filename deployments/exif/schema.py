"""Parameters and result of the metadata reader."""

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, JsonValue, StringConstraints

from deployments.runtime.capability import Params

MAX_TAGS_ASKED = 100
"""More than anybody writes into a URL; each is compared with every tag of the file."""

MAX_TAG_CHARS = 100
"""ExifTool's longest names, XMP structures written flat, have about 80."""

# They never reach ExifTool, which reads all tags of a file in any case. Nothing that could be an
# option of its command line is taken all the same, so that no later change makes it one.
_TAG = r"^[A-Za-z0-9*][A-Za-z0-9_*-]*(:[A-Za-z0-9*][A-Za-z0-9_*-]*)?$"


def _split(value: Any) -> Any:  # noqa: ANN401 - a validator sees whatever was passed
    """Take ``a,b``, which form fields hold, for ``("a", "b")``, which repeated ones give."""
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list | tuple) or not all(isinstance(part, str) for part in value):
        return value
    names = (name.strip() for part in value for name in part.split(","))
    return tuple(name for name in names if name)


Tag = Annotated[str, StringConstraints(pattern=_TAG, max_length=MAX_TAG_CHARS)]
"""``Make``, ``EXIF:Make``, or with ``*`` for any letters: ``GPS*``, ``XMP:*``."""


class ExifParams(Params):
    """What one request may ask for."""

    tags: Annotated[tuple[Tag, ...], BeforeValidator(_split)] = Field(
        default=(),
        max_length=MAX_TAGS_ASKED,
        description=(
            "Restrict `raw_metadata` to these tags, given repeatedly or separated by commas: "
            "`Make`, `EXIF:Make`, or with `*` for any letters, `GPS*` or `XMP:*`. Upper and lower "
            "case are the same. Empty keeps all. The other fields are always given."
        ),
    )


@dataclass(frozen=True, slots=True)
class ExifMetadata:
    """What a photo or video says of itself; None where it does not, or says nonsense.

    Dates are ISO 8601, with an offset from UTC where the file says one. ``image_width`` and
    ``image_height`` are in pixels as stored, before ``orientation`` is applied, which is EXIF's: 1
    is upright, 2 to 8 are turned or mirrored; of a video it is the rotation in the same numbers.
    ``exposure_time`` is in seconds, ``focal_length`` in millimetres, ``gps_latitude`` and
    ``gps_longitude`` in degrees, south and west negative, ``gps_altitude`` in metres, below sea
    level negative. ``duration_s`` is a video's. ``raw_metadata`` has the tags by ``Group:Name``.
    """

    media_type: str
    make: str | None
    model: str | None
    lens_model: str | None
    software: str | None
    date_time_original: str | None
    create_date: str | None
    modify_date: str | None
    image_width: int | None
    image_height: int | None
    orientation: int | None
    duration_s: float | None
    iso: int | None
    f_number: float | None
    exposure_time: float | None
    focal_length: float | None
    gps_latitude: float | None
    gps_longitude: float | None
    gps_altitude: float | None
    raw_metadata: dict[str, JsonValue]
