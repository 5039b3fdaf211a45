"""The metadata capability on real files with the real ExifTool."""

import hashlib
import json
import pickle
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from deployments.exif import Exif, ExifMetadata, ExifParams
from deployments.runtime.asset import Asset
from deployments.runtime.capability import NodeSettings
from deployments.runtime.errors import ToolFailedError, UnsupportedMediaError
from deployments.runtime.folders import AllowedFolders
from deployments.runtime.models import ModelStore
from deployments.runtime.random_media.videos import Container
from deployments.runtime.types import Media
from tests.deployments.exif.media_files import (
    FIELDS,
    RawFormat,
    photo,
    raw_photo,
    video,
    written,
)

Read = Callable[..., ExifMetadata]


@pytest.fixture(scope="module")
def settings(store: ModelStore) -> NodeSettings:
    """What a node gets."""
    return NodeSettings(store)


@pytest.fixture(scope="module")
def exif(settings: NodeSettings) -> Iterator[Exif]:
    """The capability with ExifTool running."""
    exif = Exif(settings)
    exif.load()
    yield exif
    exif.close()


@pytest.fixture
def assets() -> Iterator[Callable[[Media], Asset]]:
    """Makes assets that are closed after the test."""
    with ExitStack() as stack:

        def open_asset(media: Media) -> Asset:
            asset = Asset(media)
            stack.callback(asset.close)
            return asset

        yield open_asset


@pytest.fixture
def read(exif: Exif, assets: Callable[[Media], Asset]) -> Read:
    """Reads one file."""

    def read(media: Media, **params: object) -> ExifMetadata:
        return exif.run_batch([((assets(media),), ExifParams.model_validate(params))])[0]

    return read


@pytest.mark.parametrize(
    ("image_format", "mime"),
    [
        ("JPEG", "image/jpeg"),
        ("HEIF", "image/heic"),
        ("PNG", "image/png"),
        ("TIFF", "image/tiff"),
        ("WEBP", "image/webp"),
        ("AVIF", "image/avif"),
    ],
)
def test_photos(read: Read, image_format: str, mime: str) -> None:
    """Every format of photos gives the same fields from the same EXIF."""
    found = read(photo(image_format))
    expected = ExifMetadata(
        media_type=mime,
        make="Acme",
        model="A1",
        lens_model=None,
        software=None,
        date_time_original="2024-05-01T10:20:30.500000+02:00",
        create_date=None,
        modify_date=None,
        image_width=64,
        image_height=48,
        orientation=6,
        duration_s=None,
        iso=None,
        f_number=None,
        exposure_time=None,
        focal_length=None,
        gps_latitude=-33.5,
        gps_longitude=-70.25,
        gps_altitude=-12.5,
        raw_metadata=found.raw_metadata,
    )
    assert expected == found
    assert "Acme" == found.raw_metadata["EXIF:Make"]
    assert mime == found.raw_metadata["File:MIMEType"]


@pytest.mark.parametrize(
    ("image_format", "mime"),
    [("GIF", "image/gif"), ("BMP", "image/bmp"), ("PNG", "image/png"), ("JPEG", "image/jpeg")],
)
def test_photos_without_metadata(read: Read, image_format: str, mime: str) -> None:
    """A photo without metadata has its type and size, and None for the rest."""
    found = read(photo(image_format, None))
    assert (mime, 64, 48) == (found.media_type, found.image_width, found.image_height)
    assert (None, None, None, None) == (
        found.make,
        found.date_time_original,
        found.orientation,
        found.gps_latitude,
    )


@pytest.mark.parametrize(
    ("raw_format", "mime", "make"),
    [
        ("dng", "image/x-adobe-dng", "Acme"),
        ("cr2", "image/x-canon-cr2", "Canon"),
        ("nef", "image/x-nikon-nef", "NIKON CORPORATION"),
    ],
)
def test_raw_photos(read: Read, raw_format: RawFormat, mime: str, make: str) -> None:
    """Of a camera's raw file the size is the sensor's, not that of the preview before it."""
    found = read(raw_photo(raw_format))
    assert (mime, make) == (found.media_type, found.make)
    assert (4000, 3000, 8) == (found.image_width, found.image_height, found.orientation)
    assert (400, 2.8) == (found.iso, found.f_number)


@pytest.mark.parametrize(
    ("container", "mime"),
    [("mp4", "video/mp4"), ("mov", "video/quicktime")],
)
def test_videos(read: Read, container: Container, mime: str) -> None:
    """Videos give size as stored, rotation as orientation, duration, place, and dates in UTC."""
    media = written(
        video(container, rotation_degrees=90),
        "-Keys:GPSCoordinates=-33.5, -70.25, -12.5",
        "-Keys:Make=Apple",
        "-Keys:Model=Phone 15",
        "-Keys:Software=15.10",
        "-Keys:CreationDate=2024:05:01 10:20:30+02:00",
        "-QuickTime:CreateDate=2024:05:01 08:20:30",
        "-QuickTime:ModifyDate=2024:05:01 08:21:30",
    )
    found = read(media)
    expected = ExifMetadata(
        media_type=mime,
        make="Apple",
        model="Phone 15",
        lens_model=None,
        software="15.10",
        date_time_original="2024-05-01T10:20:30+02:00",
        create_date="2024-05-01T08:20:30+00:00",
        modify_date="2024-05-01T08:21:30+00:00",
        image_width=64,
        image_height=48,
        orientation=8,
        duration_s=0.4,
        iso=None,
        f_number=None,
        exposure_time=None,
        focal_length=None,
        gps_latitude=-33.5,
        gps_longitude=-70.25,
        gps_altitude=-12.5,
        raw_metadata=found.raw_metadata,
    )
    assert expected == found


def test_webm(read: Read) -> None:
    """WebM has a size and a duration, and no rotation."""
    found = read(video("webm"))
    assert ("video/webm", 64, 48, 0.4, None) == (
        found.media_type,
        found.image_width,
        found.image_height,
        found.duration_s,
        found.orientation,
    )


def test_all_typed_fields(read: Read) -> None:
    """Camera, lens, exposure and all three dates come as plain values."""
    media = written(
        photo(),
        "-LensModel=Fifty",
        "-Software=15.10",
        "-Model=350",
        "-ISO=200",
        "-FNumber=2.8",
        "-ExposureTime=1/250",
        "-FocalLength=50",
        "-CreateDate=2024:05:02 10:20:30",
        "-OffsetTimeDigitized=-03:30",
        "-ModifyDate=2024:05:03 10:20:30",
        "-SubSecTime=050",
    )
    found = read(media)
    assert ("Fifty", "15.10", "350") == (found.lens_model, found.software, found.model)
    assert (200, 2.8, 0.004, 50) == (
        found.iso,
        found.f_number,
        found.exposure_time,
        found.focal_length,
    )
    assert "2024-05-02T10:20:30-03:30" == found.create_date
    assert "2024-05-03T10:20:30.050000" == found.modify_date


def test_xmp_and_iptc(read: Read) -> None:
    """Where EXIF says nothing, XMP and IPTC are asked."""
    media = written(
        photo(fields=None),
        "-XMP:Make=Acme",
        "-XMP:GPSLatitude=12.5",
        "-XMP:GPSLongitude=-30.25",
        "-XMP:CreateDate=2024:05:01 10:20:30.25Z",
        "-IPTC:DateCreated=2024:01:01",
        "-IPTC:TimeCreated=10:00:00+01:00",
    )
    found = read(media)
    assert "Acme" == found.make
    assert (12.5, -30.25) == (found.gps_latitude, found.gps_longitude)
    assert "2024-05-01T10:20:30.250000+00:00" == found.create_date
    assert "2024-01-01T10:00:00+01:00" == found.date_time_original


@pytest.mark.parametrize(
    ("latitude", "longitude", "altitude_m"),
    [(0, 0, 0), (48.5, 2.25, 35), (48.5, -2.25, 35), (-48.5, 2.25, -35), (-90, -180, -400.25)],
)
def test_gps_signs(read: Read, latitude: float, longitude: float, altitude_m: float) -> None:
    """South, west and below the sea are negative."""
    fields = replace(FIELDS, latitude=latitude, longitude=longitude, altitude_m=altitude_m)
    found = read(photo(fields=fields))
    position = (found.gps_latitude, found.gps_longitude, found.gps_altitude)
    assert (latitude, longitude, altitude_m) == pytest.approx(position, abs=1e-6)


@pytest.mark.parametrize("minutes", [None, 0, 330, -210])
def test_offsets(read: Read, minutes: int | None) -> None:
    """A date has the offset that the camera wrote, and none where it wrote none."""
    zone = None if minutes is None else timezone(timedelta(minutes=minutes))
    taken_at = datetime(2024, 5, 1, 10, 20, 30, tzinfo=zone)
    found = read(photo(fields=replace(FIELDS, taken_at=taken_at)))
    assert taken_at.isoformat() == found.date_time_original


def test_nonsense(read: Read) -> None:
    """Values that can't be are None, and stay visible in the dictionary."""
    media = written(
        photo(),
        "-n",
        "-GPSLatitude=123.5",
        "-GPSLongitude=200.5",
        "-GPSAltitude=4294967295",
        "-DateTimeOriginal=0000:00:00 00:00:00",
        "-ISO=0",
        "-Orientation=77",
        "-Software=   ",
    )
    found = read(media)
    assert (None, None, None) == (found.gps_latitude, found.gps_longitude, found.gps_altitude)
    assert (None, None, None, None) == (
        found.date_time_original,
        found.iso,
        found.orientation,
        found.software,
    )
    assert "0000:00:00 00:00:00" == found.raw_metadata["EXIF:DateTimeOriginal"]


def test_raw_metadata(read: Read) -> None:
    """The dictionary is JSON, has all groups, and nothing of our own file system."""
    media = written(
        photo(),
        "-XMP:Subject=one",
        "-XMP:Subject=two",
        "-Comment=" + "long " * 2000,
        "-ThumbnailImage<=/dev/null",
    )
    raw = read(media).raw_metadata
    assert ["one", "two"] == raw["XMP:Subject"]
    assert 4096 == len(str(raw["File:Comment"]))
    text = json.dumps(raw, allow_nan=False)
    assert "/proc" not in text
    own = {"SourceFile", "File:FileName", "File:Directory", "File:FileModifyDate"}
    assert set() == own & set(raw)


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("Make,Model", {"EXIF:Make", "EXIF:Model"}),
        (["exif:make"], {"EXIF:Make"}),
        (
            "JFIF:*",
            {"JFIF:JFIFVersion", "JFIF:ResolutionUnit", "JFIF:XResolution", "JFIF:YResolution"},
        ),
        ("NoSuchTag", set()),
    ],
)
def test_tags(read: Read, tags: object, expected: set[str]) -> None:
    """Tags restrict the dictionary, and leave the typed fields as they are."""
    everything, some = read(photo()), read(photo(), tags=tags)
    assert expected == set(some.raw_metadata)
    assert everything == replace(some, raw_metadata=everything.raw_metadata)


@pytest.mark.parametrize(
    "media",
    [
        pytest.param(Media(photo().data[:400], "cut.jpg"), id="cut within its metadata"),
        pytest.param(Media(b"\xff\xd8\xff", "three.jpg"), id="three bytes"),
        pytest.param(Media(b"\xff\xd8\xff" + bytes(range(256)) * 4), id="nonsense"),
        pytest.param(Media(b"\x89PNG\r\n\x1a\n" + b"\0" * 50, "x.png"), id="png"),
        pytest.param(Media(b"II*\0" + b"\xff" * 50, "x.tif"), id="tiff"),
        pytest.param(Media(b"GIF89a\xff", "x.gif"), id="gif"),
        pytest.param(Media(b"\0\0\0\x18ftypisom" + b"\xff" * 60, "x.mp4"), id="mp4"),
        pytest.param(Media(b"\x1aE\xdf\xa3" + b"\xff" * 60, "x.mkv"), id="mkv"),
        pytest.param(Media(photo("HEIF").data[:200], "x.heic"), id="heic"),
    ],
)
def test_corrupt(read: Read, media: Media) -> None:
    """A broken file gives an empty result that says why, and not an error."""
    found = read(media)
    assert (None, None, None) == (found.make, found.date_time_original, found.gps_latitude)
    assert {"ExifTool:Error", "ExifTool:Warning"} & set(found.raw_metadata)


def test_truncated(read: Read) -> None:
    """A photo cut off after its metadata has all of them."""
    whole = read(photo())
    assert whole == read(Media(photo().data[:1500], "photo.jpg"))


@pytest.mark.parametrize(
    ("data", "mime"),
    [
        (b"hello\n", "text/plain"),
        (b"PK\x03\x04" + b"\0" * 40, "application/zip"),
        (b"%PDF-1.7\n", "application/pdf"),
        (b"ID3\x04" + b"\0" * 40, "audio/mpeg"),
        (b"\0" * 40, "application/octet-stream"),
    ],
)
def test_unsupported(read: Read, data: bytes, mime: str) -> None:
    """A file that is no photo or video is refused by what it looks like."""
    with pytest.raises(UnsupportedMediaError, match=f"'notes' looks like {mime}"):
        read(Media(data, "notes"))


def test_batch_equals_singles(exif: Exif, assets: Callable[[Media], Asset], read: Read) -> None:
    """Files of several requests in one call give what each gives alone, a bad one between."""
    media = [
        photo(number=0),
        Media(b"\xff\xd8\xff broken", "broken.jpg"),
        video(),
        raw_photo("dng"),
        photo("PNG", replace(FIELDS, make="Other")),
    ]
    singles = [read(one, tags="Make") for one in media]
    params = ExifParams(tags=("Make",))
    for _ in range(2):
        assert singles == exif.run_batch([((assets(one),), params) for one in media])
    assert ["Acme", None, None, "Acme", "Other"] == [single.make for single in singles]


def test_same_file_twice(exif: Exif, assets: Callable[[Media], Asset]) -> None:
    """One file in two requests of a batch is read for both, each with its own tags."""
    asset = assets(photo())
    first, second = exif.run_batch(
        [((asset,), ExifParams(tags=("Make",))), ((asset,), ExifParams(tags=("Model",)))]
    )
    assert ({"EXIF:Make": "Acme"}, {"EXIF:Model": "A1"}) == (
        first.raw_metadata,
        second.raw_metadata,
    )


def test_file_that_is_gone(exif: Exif, assets: Callable[[Media], Asset]) -> None:
    """A file closed by its own request fails by name, and those beside it do not."""
    good, gone = assets(photo()), assets(Media(photo().data, "gone.jpg"))
    works = [exif.prepare((asset,), ExifParams()) for asset in (good, gone, good)]
    gone.close()
    parts = exif.infer([unit for work in works for unit in work.units])
    assert "Acme" == exif.finish(works[0], parts[0:1]).make
    with pytest.raises(ToolFailedError, match=r"'gone\.jpg': ExifTool found no file"):
        exif.finish(works[1], parts[1:2])
    assert "Acme" == exif.finish(works[2], parts[2:3]).make


def test_files_are_not_written(exif: Exif, tmp_path: Path) -> None:
    """A file that is named by its path stays as it was, and nothing appears beside it."""
    path = tmp_path / "photo.jpg"
    path.write_bytes(photo().data)
    before = (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
    asset = Asset(Media(path=str(path)), files=AllowedFolders(readable=(tmp_path,)))
    found = exif.run_batch([((asset,), ExifParams())])[0]
    asset.close()
    after = (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
    assert ("Acme", before, [path]) == (found.make, after, list(tmp_path.iterdir()))


def test_huge_video(exif: Exif, tmp_path: Path) -> None:
    """A video of 5 GB whose index comes last is read to its end, at once."""
    plain = video("mp4").data
    index_at = plain.index(b"moov") - 4
    path = tmp_path / "huge.mp4"
    with path.open("wb") as file:
        # A box of 64-bit size, which is a hole in the file, between the header and the index.
        file.write(plain[: int.from_bytes(plain[:4], "big")])
        file.write(b"\0\0\0\1mdat" + (5 * 2**30).to_bytes(8, "big"))
        file.seek(5 * 2**30 - 16, 1)
        file.write(plain[index_at:])
    asset = Asset(Media(path=str(path)), files=AllowedFolders(readable=(tmp_path,)))
    found = exif.run_batch([((asset,), ExifParams())])[0]
    asset.close()
    assert (64, 48, 0.4) == (found.image_width, found.image_height, found.duration_s)


def test_sample(exif: Exif) -> None:
    """The self-test's input is read by the real program."""
    (asset,) = exif.sample()
    found = exif.run_batch([((asset,), ExifParams())])[0]
    asset.close()
    assert ("Sample", "2024-05-01T10:20:30+00:00") == (found.make, found.date_time_original)


def test_crosses_a_handle(read: Read) -> None:
    """A result survives pickling, and JSON in both directions."""
    found = read(photo())
    adapter = TypeAdapter(ExifMetadata)
    assert found == pickle.loads(pickle.dumps(found))  # noqa: S301 - our own bytes
    assert found == adapter.validate_json(adapter.dump_json(found))


def test_not_loaded(settings: NodeSettings, assets: Callable[[Media], Asset]) -> None:
    """Without ``load``, requests fail, and ``close`` has nothing to do."""
    exif = Exif(settings)
    exif.close()
    with pytest.raises(ToolFailedError, match="was not started"):
        exif.infer([assets(photo()).path])
