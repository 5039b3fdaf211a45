"""The EXIF data of a made-up photo."""

from dataclasses import dataclass
from datetime import datetime

from PIL import ExifTags, Image
from PIL.TiffImagePlugin import IFDRational

_SECOND_PARTS = 10_000  # a ten-thousandth of a second of arc is about 3 mm on the ground
_METRE_PARTS = 100


@dataclass(frozen=True, slots=True)
class ExifFields:
    """What a camera would have written; None leaves a field out.

    Attributes:
        orientation: EXIF orientation, 1 to 8.
        taken_at: when the photo was taken; the offset is written when the time has one.
        latitude: degrees, north positive. Given together with ``longitude``.
        longitude: degrees, east positive.
        altitude_m: metres above sea level, negative below.
        make: the camera's maker.
        model: the camera.

    """

    orientation: int | None = None
    taken_at: datetime | None = None
    latitude: float | None = None
    longitude: float | None = None
    altitude_m: float | None = None
    make: str | None = None
    model: str | None = None

    def to_bytes(self) -> bytes:
        """Return the EXIF block that Pillow's ``save(exif=...)`` takes."""
        exif = Image.Exif()
        for tag, value in (
            (ExifTags.Base.Orientation, self.orientation),
            (ExifTags.Base.Make, self.make),
            (ExifTags.Base.Model, self.model),
        ):
            if value is not None:
                exif[tag] = value
        if self.taken_at is not None:
            exif.get_ifd(ExifTags.IFD.Exif).update(_date_fields(self.taken_at))
        if self.latitude is not None and self.longitude is not None:
            exif.get_ifd(ExifTags.IFD.GPSInfo).update(self._gps_fields())
        return exif.tobytes()

    def _gps_fields(self) -> dict[int, object]:
        latitude, longitude = self.latitude or 0.0, self.longitude or 0.0
        fields: dict[int, object] = {
            ExifTags.GPS.GPSVersionID: b"\x02\x03\x00\x00",
            ExifTags.GPS.GPSLatitudeRef: "N" if latitude >= 0 else "S",
            ExifTags.GPS.GPSLatitude: _degrees(abs(latitude)),
            ExifTags.GPS.GPSLongitudeRef: "E" if longitude >= 0 else "W",
            ExifTags.GPS.GPSLongitude: _degrees(abs(longitude)),
        }
        if self.altitude_m is not None:
            fields[ExifTags.GPS.GPSAltitudeRef] = b"\x00" if self.altitude_m >= 0 else b"\x01"
            fields[ExifTags.GPS.GPSAltitude] = IFDRational(
                round(abs(self.altitude_m) * _METRE_PARTS),
                _METRE_PARTS,
            )
        return fields


def _date_fields(moment: datetime) -> dict[int, str]:
    fields: dict[int, str] = {
        ExifTags.Base.DateTimeOriginal: moment.strftime("%Y:%m:%d %H:%M:%S"),
    }
    if moment.microsecond:
        fields[ExifTags.Base.SubsecTimeOriginal] = f"{moment.microsecond:06d}"
    if moment.utcoffset() is not None:
        fields[ExifTags.Base.OffsetTimeOriginal] = moment.isoformat()[-6:]
    return fields


def _degrees(angle: float) -> tuple[IFDRational, IFDRational, IFDRational]:
    """Split an angle into degrees, minutes and seconds, as EXIF has it."""
    parts = round(angle * 3600 * _SECOND_PARTS)
    minutes, seconds = divmod(parts, 60 * _SECOND_PARTS)
    degrees, minutes = divmod(minutes, 60)
    return IFDRational(degrees, 1), IFDRational(minutes, 1), IFDRational(seconds, _SECOND_PARTS)
