"""Made-up media: repeatable, and what was asked for."""

import re
import subprocess
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from deployments.runtime.ffmpeg import ffmpeg_exe
from deployments.runtime.picture import Picture
from deployments.runtime.random_media import (
    ExifFields,
    FrameGenerator,
    ImageGenerator,
    Placement,
    SceneGenerator,
    VideoGenerator,
    montage,
)
from deployments.runtime.random_media.videos import Container
from deployments.runtime.timestamps import from_exif
from deployments.runtime.types import Box


def probe(path: Path) -> str:
    """What FFmpeg says about a file, decoding all of it."""
    done = subprocess.run(
        [ffmpeg_exe(), "-hide_banner", "-i", str(path), "-f", "null", "-"],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stderr


def decoded(path: Path, size: tuple[int, int]) -> np.ndarray:
    """All frames of a video, (N, height, width, 3), uint8 RGB, not turned."""
    command = [ffmpeg_exe(), "-v", "error", "-noautorotate", "-i", str(path)]
    command += ["-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    done = subprocess.run(command, capture_output=True, check=True)
    return np.frombuffer(done.stdout, np.uint8).reshape(-1, size[1], size[0], 3)


def test_images_are_repeatable() -> None:
    """The same seed and number give the same pixels and file; another one gives others."""
    first, same = ImageGenerator((40, 30), seed=7), ImageGenerator((40, 30), seed=7)
    assert np.array_equal(first.pixels(2), same.pixels(2))
    assert first.encode(2) == same.encode(2)
    assert not np.array_equal(first.pixels(2), first.pixels(3))
    assert not np.array_equal(first.pixels(2), ImageGenerator((40, 30), seed=8).pixels(2))


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (640, 480), (1025, 3), (3, 1025)])
def test_image_size(size: tuple[int, int]) -> None:
    """Pixels have the shape and type that are promised, at any size."""
    pixels = ImageGenerator(size).pixels()
    assert (size[1], size[0], 3) == pixels.shape
    assert np.uint8 == pixels.dtype


def test_images_have_detail() -> None:
    """A JPEG takes as much room as a photo's: between 0.15 and 0.8 bytes a pixel."""
    data = ImageGenerator((1600, 1200)).encode()
    assert 0.15 < len(data) / (1600 * 1200) < 0.8


@pytest.mark.parametrize(
    ("image_format", "mode", "name"),
    [
        ("JPEG", "L", "photo-0-1.jpg"),
        ("JPEG", "CMYK", "photo-0-1.jpg"),
        ("PNG", "RGBA", "photo-0-1.png"),
        ("HEIF", "RGB", "photo-0-1.heif"),
        ("AVIF", "RGB", "photo-0-1.avif"),
    ],
)
def test_image_formats(image_format: str, mode: str, name: str) -> None:
    """An upload has the format, the mode and a name that fits."""
    generator = ImageGenerator((24, 16), mode=mode, format=image_format)
    media = generator.media(1)
    assert name == media.filename
    assert mode == generator.image().mode
    picture = Picture(media)
    assert (image_format, (24, 16)) == (picture.format, picture.size)


def read_exif(fields: ExifFields) -> Image.Exif:
    """Read back what was written."""
    exif = Image.Exif()
    exif.load(fields.to_bytes())
    return exif


@pytest.mark.parametrize(
    "moment",
    [
        datetime(2024, 5, 1, 10, 20, 30, 250_000, timezone(timedelta(hours=-9, minutes=-30))),
        datetime(2024, 5, 1, 10, 20, 30, tzinfo=UTC),
        datetime(2024, 5, 1, 10, 20, 30),  # noqa: DTZ001 - a camera without an offset
    ],
)
def test_exif_date(moment: datetime) -> None:
    """The date comes back as it was, with or without offset and subseconds."""
    tags = read_exif(ExifFields(taken_at=moment)).get_ifd(ExifTags.IFD.Exif)
    result = from_exif(
        tags[ExifTags.Base.DateTimeOriginal],
        tags.get(ExifTags.Base.OffsetTimeOriginal),
        tags.get(ExifTags.Base.SubsecTimeOriginal),
    )
    assert moment == result
    assert result is not None
    assert moment.utcoffset() == result.utcoffset()


@pytest.mark.parametrize(
    ("latitude", "longitude", "altitude_m"),
    [(48.137154, 11.576124, 519.25), (-33.856784, -70.5, -12.5), (0.0, 0.0, 0.0)],
)
def test_exif_position(latitude: float, longitude: float, altitude_m: float) -> None:
    """The position comes back to within a few millimetres, on either side of both zero lines."""
    fields = ExifFields(latitude=latitude, longitude=longitude, altitude_m=altitude_m)
    tags = read_exif(fields).get_ifd(ExifTags.IFD.GPSInfo)

    def angle(values: tuple[float, float, float]) -> float:
        return float(values[0]) + float(values[1]) / 60 + float(values[2]) / 3600

    north = 1 if tags[ExifTags.GPS.GPSLatitudeRef] == "N" else -1
    east = 1 if tags[ExifTags.GPS.GPSLongitudeRef] == "E" else -1
    up = 1 if tags[ExifTags.GPS.GPSAltitudeRef] == b"\x00" else -1
    assert latitude == pytest.approx(north * angle(tags[ExifTags.GPS.GPSLatitude]), abs=1e-7)
    assert longitude == pytest.approx(east * angle(tags[ExifTags.GPS.GPSLongitude]), abs=1e-7)
    assert altitude_m == pytest.approx(up * float(tags[ExifTags.GPS.GPSAltitude]))


def test_exif_camera() -> None:
    """Maker, model and orientation come back, and what was not given is not written."""
    exif = read_exif(ExifFields(orientation=6, make="Acme", model="One"))
    assert {"Orientation": 6, "Make": "Acme", "Model": "One"} == {
        ExifTags.TAGS[tag]: value for tag, value in exif.items()
    }


def test_frames_move_and_repeat() -> None:
    """Frames of a scene follow from each other, differ, and are the same the next time."""
    generator = FrameGenerator((64, 48), seed=2)
    frames = list(generator.frames(3))
    assert [(48, 64, 3)] * 3 == [frame.shape for frame in frames]
    assert not np.array_equal(frames[0], frames[1])
    assert np.abs(frames[0].astype(int) - frames[1]).mean() < 10
    assert np.array_equal(frames, list(generator.frames(3)))


def test_scenes_have_cuts() -> None:
    """The picture changes much at the cuts, and only there."""
    generator = SceneGenerator((4, 3, 5), size=(64, 48), seed=1)
    frames = np.stack(list(generator.frames())).astype(int)
    changes = np.abs(np.diff(frames, axis=0)).mean(axis=(1, 2, 3))
    assert (4, 7) == generator.cuts
    assert [4, 7] == [index + 1 for index, change in enumerate(changes) if change > 20]


@pytest.mark.parametrize(
    ("container", "codec"),
    [("mp4", "h264"), ("mov", "h264"), ("webm", "vp8")],
)
@pytest.mark.parametrize("with_audio", [False, True])
def test_videos(container: Container, codec: str, *, with_audio: bool, tmp_path: Path) -> None:
    """A video has the codec, size, length, frames and audio that were asked for."""
    generator = VideoGenerator(
        container,
        size=(64, 48),
        fps=10,
        duration_s=1.2,
        scenes=2,
        with_audio=with_audio,
    )
    path = tmp_path / "video"
    generator.write(path)
    said = probe(path)
    assert f"Video: {codec}" in said
    assert "64x48" in said
    assert with_audio == ("Audio:" in said)
    found = re.search(r"Duration: 00:00:([0-9.]+)", said)
    assert found is not None
    assert 1.2 == pytest.approx(float(found[1]), abs=0.1)
    frames = decoded(path, generator.size)
    expected = np.stack(list(generator.source().frames()))
    assert expected.shape == frames.shape
    # 4:2:0 colour blurs the edges of small bright shapes; another scene would differ by 50.
    assert np.abs(expected.astype(int) - frames).mean() < 20


@pytest.mark.parametrize("container", ["mp4", "mov"])
@pytest.mark.parametrize(("degrees", "matrix"), [(90, 90), (180, -180), (270, -90)])
def test_video_rotation(container: Container, degrees: int, matrix: int, tmp_path: Path) -> None:
    """Rotation is written as metadata; the frames stay as they are."""
    generator = VideoGenerator(
        container,
        size=(64, 48),
        duration_s=0.2,
        rotation_degrees=degrees,
        with_audio=True,
    )
    path = tmp_path / "video"
    generator.write(path)
    found = re.search(r"rotation of (-?[0-9.]+) degrees", probe(path))
    assert found is not None
    assert matrix % 360 == float(found[1]) % 360
    assert generator.frame_count == len(decoded(path, generator.size))


def test_video_upload() -> None:
    """An upload has the bytes of the file and a name that fits."""
    generator = VideoGenerator(size=(32, 32), duration_s=0.2, seed=4)
    media = generator.media()
    assert "video-4.mp4" == media.filename
    assert media.data[4:8] == b"ftyp"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"size": (63, 48)}, r"size: expected even numbers from 2, got \(63, 48\)"),
        ({"size": (0, 48)}, "size"),
        ({"scenes": 0}, "scenes: expected 1 to 50"),
        ({"scenes": 51}, "scenes: expected 1 to 50"),
        ({"duration_s": 0}, "duration_s: expected at least one frame"),
        ({"rotation_degrees": 45}, "rotation_degrees: expected 0, 90, 180 or 270, got 45"),
        ({"container": "webm", "rotation_degrees": 90}, "webm has no field"),
    ],
)
def test_impossible_videos(fields: dict[str, object], message: str) -> None:
    """What can't be made is refused at once, with what would be possible."""
    with pytest.raises(ValueError, match=message):
        VideoGenerator(**fields)  # pyright: ignore[reportArgumentType]


def test_ffmpeg_failure_is_told(tmp_path: Path) -> None:
    """FFmpeg's own words reach the caller."""
    with pytest.raises(RuntimeError, match=r"FFmpeg failed: .*[Nn]o such file"):
        VideoGenerator(size=(32, 32), duration_s=0.2).write(tmp_path / "none" / "video.mp4")


def test_montage() -> None:
    """Photos lie where the boxes say, in proportion, later ones on top, and may be cut off."""
    red, green = Image.new("RGB", (10, 20), (255, 0, 0)), Image.new("L", (8, 8), 255)
    result = montage(
        [red, green],
        [Placement(50, 20, 20), Placement(-10, 90, 20)],
        (200, 100),
        background=(1, 2, 3),
    )
    assert (Box(0.25, 0.2, 0.35, 0.6), Box(-0.05, 0.9, 0.05, 1.1)) == result.boxes
    assert ("RGB", (200, 100)) == (result.image.mode, result.image.size)
    assert (255, 0, 0) == result.image.getpixel((50, 20)) == result.image.getpixel((69, 59))
    assert (1, 2, 3) == result.image.getpixel((49, 20)) == result.image.getpixel((70, 59))
    assert (255, 255, 255) == result.image.getpixel((0, 99))


def test_empty_montage() -> None:
    """No photos give the background and no boxes."""
    result = montage([], [], (4, 3))
    assert () == result.boxes
    assert (128, 128, 128) == result.image.getpixel((0, 0))


def test_montage_needs_a_place_for_each() -> None:
    """A photo without a place is refused."""
    with pytest.raises(ValueError, match="got 0 for 1"):
        montage([Image.new("RGB", (1, 1))], [], (4, 3))
