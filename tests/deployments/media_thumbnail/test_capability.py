"""Thumbnails of photos and videos, from the file to the file."""

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms
from pydantic import TypeAdapter, ValidationError

from deployments.media_thumbnail import MediaThumbnail, MediaThumbnailParams, Thumbnail
from deployments.runtime.asset import Asset
from deployments.runtime.capability import NodeSettings
from deployments.runtime.errors import (
    CorruptMediaError,
    InputError,
    InvalidParameterError,
    TooLargeError,
    UnsupportedMediaError,
)
from deployments.runtime.folders import AllowedFolders
from deployments.runtime.models import ModelStore
from deployments.runtime.random_media import ExifFields, ImageGenerator, VideoGenerator
from deployments.runtime.types import EncodedFile, Media
from tests.deployments.videos_support import counter, ffmpeg, filmed, number_of

Photo = Callable[[str], Media]
IMAGE_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "HEIF", "AVIF")


@pytest.fixture(scope="module")
def capability(store: ModelStore) -> MediaThumbnail:
    """The capability, loaded."""
    loaded = MediaThumbnail(NodeSettings(store=store))
    loaded.load()
    return loaded


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video that counts its frames."""
    return counter(tmp_path_factory.mktemp("film") / "film.mp4")


def thumbnail(
    capability: MediaThumbnail,
    media: Media,
    *,
    max_pixels: int = 50_000_000,
    **params: Any,  # noqa: ANN401 - checked by the model
) -> Thumbnail:
    """Make a thumbnail of one file."""
    asset = Asset(media, max_pixels=max_pixels)
    try:
        checked = MediaThumbnailParams.model_validate(params)
        return capability.run_batch([((asset,), checked)])[0]
    finally:
        asset.close()


def shown(result: Thumbnail) -> Image.Image:
    """Read a thumbnail."""
    image = Image.open(io.BytesIO(result.data))
    assert (result.width, result.height) == image.size
    return image.convert("RGB")


def encoded(image: Image.Image, image_format: str, **options: object) -> Media:
    """Encode with Pillow."""
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return Media(buffer.getvalue(), f"made.{image_format.lower()}")


@pytest.mark.parametrize("image_format", IMAGE_FORMATS)
def test_every_image_format(image_format: str, capability: MediaThumbnail) -> None:
    """A picture of each format becomes a JPEG of 512 pixels that looks like it."""
    generator = ImageGenerator((1024, 768), format=image_format)
    result = thumbnail(capability, generator.media())
    assert ("image/jpeg", 512, 384) == (result.media_type, result.width, result.height)
    expected = generator.image().resize((512, 384), Image.Resampling.BOX)
    difference = np.asarray(shown(result), float) - np.asarray(expected)
    assert np.abs(difference).mean() < 10


@pytest.mark.parametrize("container", ["mp4", "mov", "webm"])
def test_every_video_format(container: str, capability: MediaThumbnail) -> None:
    """A video's first picture becomes its thumbnail."""
    generator = VideoGenerator(container, size=(640, 480), duration_s=0.5)  # pyright: ignore[reportArgumentType]
    result = thumbnail(capability, generator.media())
    assert ("image/jpeg", 512, 384) == (result.media_type, result.width, result.height)
    first = Image.fromarray(next(generator.source().frames())).resize((512, 384))
    difference = np.asarray(shown(result), float) - np.asarray(first)
    assert np.abs(difference).mean() < 12


@pytest.mark.parametrize(
    ("params", "size"),
    [
        ({}, (512, 342)),
        ({"width": 100}, (100, 67)),
        ({"height": 100}, (150, 100)),
        ({"width": 100, "height": 100}, (100, 67)),
        ({"width": 100, "height": 100, "fit": "cover"}, (100, 100)),
        ({"width": 100, "height": 100, "fit": "fill"}, (100, 100)),
        ({"fit": "cover"}, (427, 427)),
        ({"width": 4096, "height": 4096}, (640, 427)),
        ({"width": 4096, "height": 4096, "fit": "fill"}, (4096, 4096)),
        ({"width": 1, "height": 1}, (1, 1)),
    ],
)
def test_size(
    params: dict[str, Any], size: tuple[int, int], capability: MediaThumbnail, photo: Photo
) -> None:
    """A photograph fits into the box as was asked for."""
    assert size == shown(thumbnail(capability, photo("rocket"), **params)).size


@pytest.mark.parametrize(
    ("image_format", "extension"), [("jpeg", "jpg"), ("webp", "webp"), ("avif", "avif")]
)
def test_file(image_format: str, extension: str, capability: MediaThumbnail, photo: Photo) -> None:
    """The file is of the format, the media type and the name that it says."""
    result = thumbnail(capability, photo("chelsea"), format=image_format, width=64)
    assert isinstance(result, EncodedFile)
    assert f"image/{image_format}" == result.media_type
    assert f"chelsea-thumbnail.{extension}" == result.filename
    assert image_format.upper() == Image.open(io.BytesIO(result.data)).format


def test_formats_look_alike(capability: MediaThumbnail, photo: Photo) -> None:
    """By default the newer formats give smaller files of the same look."""
    formats = ("jpeg", "webp", "avif")
    results = [thumbnail(capability, photo("astronaut"), format=it) for it in formats]
    sizes = [len(result.data) for result in results]
    assert sorted(sizes, reverse=True) == sizes
    jpeg = np.asarray(shown(results[0]), float)
    assert all(np.abs(np.asarray(shown(other)) - jpeg).mean() < 5 for other in results[1:])


def test_cover_takes_the_centre(capability: MediaThumbnail) -> None:
    """What is cut off is cut off evenly."""
    image = Image.new("RGB", (300, 100), (255, 0, 0))
    image.paste((0, 255, 0), (100, 0, 200, 100))
    media = encoded(image, "PNG")
    result = shown(thumbnail(capability, media, width=50, height=50, fit="cover", quality=100))
    assert (0, 255, 0) == pytest.approx(result.getpixel((3, 25)), abs=8)
    assert (0, 255, 0) == pytest.approx(result.getpixel((46, 25)), abs=8)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation(orientation: int, capability: MediaThumbnail) -> None:
    """A photo is upright and as wide as a person sees it, and says nothing more of turning."""
    exif = ExifFields(orientation=orientation)
    generator = ImageGenerator((1600, 800), exif=exif)
    result = thumbnail(capability, generator.media(), width=64, height=64)
    assert ((64, 32) if orientation < 5 else (32, 64)) == shown(result).size
    assert {} == dict(Image.open(io.BytesIO(result.data)).getexif())


def test_turned_video(capability: MediaThumbnail) -> None:
    """A video that was filmed upright is upright."""
    media = VideoGenerator(size=(320, 240), duration_s=0.2, rotation_degrees=270).media()
    assert (240, 320) == shown(thumbnail(capability, media)).size


def test_pixels_that_are_no_squares(capability: MediaThumbnail, tmp_path: Path) -> None:
    """A television recording gets the proportions of a television."""
    path = filmed(tmp_path / "tv.mpg", "testsrc=size=720x576:duration=0.2,setdar=16/9", "-q:v", "2")
    result = thumbnail(capability, Media(path.read_bytes(), "tv.mpg"))
    assert (512, 288) == (result.width, result.height)


def test_transparent_parts(capability: MediaThumbnail) -> None:
    """What is transparent is shown on white."""
    media = encoded(Image.new("RGBA", (8, 8), (0, 0, 0, 0)), "PNG")
    assert (255, 255, 255) == shown(thumbnail(capability, media)).getpixel((4, 4))


def test_private_data_stays(capability: MediaThumbnail) -> None:
    """Neither comment nor place nor camera of a photo are in its thumbnail."""
    exif = ExifFields(make="Secret Camera", latitude=52.1, longitude=13.2).to_bytes()
    image = ImageGenerator((64, 48)).image()
    media = encoded(image, "JPEG", comment=b"private words", exif=exif)
    for image_format in ("jpeg", "webp", "avif"):
        data = thumbnail(capability, media, format=image_format).data
        assert not [word for word in (b"private", b"Secret", b"Exif", b"ICC") if word in data]


def test_colour_profile(capability: MediaThumbnail) -> None:
    """A wide-gamut photo keeps its colours as they are meant, without its profile."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, green = data.index(b"rXYZ", 128) + 4, data.index(b"gXYZ", 128) + 4
    data[red : red + 8], data[green : green + 8] = data[green : green + 8], data[red : red + 8]
    image = Image.new("RGB", (64, 64), (220, 40, 40))
    for profile, colour in ((bytes(data), (40, 220, 40)), (b"broken", (220, 40, 40))):
        result = thumbnail(capability, encoded(image, "PNG", icc_profile=profile))
        assert colour == pytest.approx(shown(result).getpixel((30, 30)), abs=5)
        assert b"ICC_PROFILE" not in result.data


@pytest.mark.parametrize("mode", ["CMYK", "L"])
def test_profile_of_other_pixels(mode: str, capability: MediaThumbnail) -> None:
    """A profile that is not of RGB does no harm to pixels that became RGB."""
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    media = encoded(Image.new(mode, (32, 32)), "JPEG", icc_profile=lab)
    result = shown(thumbnail(capability, media)).getpixel((16, 16))
    expected = (255, 255, 255) if mode == "CMYK" else (0, 0, 0)
    assert expected == pytest.approx(result, abs=4)


@pytest.mark.parametrize("time_s", [0, 0.5, 1.96, 3.99, 4.0])
def test_timestamp(time_s: float, capability: MediaThumbnail, film: Path) -> None:
    """The frame that is shown at a time is taken, black or not."""
    media = Media(film.read_bytes(), film.name)
    result = thumbnail(capability, media, timestamp_s=time_s)
    assert min(99, int(time_s * 25 + 0.01)) == number_of(shown(result))
    assert "film-thumbnail.jpg" == result.filename


def test_first_that_is_not_black(capability: MediaThumbnail, film: Path) -> None:
    """Without a time, the first key frame that is not black is taken."""
    assert 25 == number_of(shown(thumbnail(capability, Media(film.read_bytes()))))


def test_timestamp_of_a_photo(capability: MediaThumbnail, photo: Photo) -> None:
    """A photo has one picture, whatever the time."""
    plain = thumbnail(capability, photo("chelsea"))
    assert plain == thumbnail(capability, photo("chelsea"), timestamp_s=3)


def test_by_path(capability: MediaThumbnail, film: Path) -> None:
    """A file on the node's disk gives what the same file gives when it is sent."""
    asset = Asset(Media(path=str(film)), files=AllowedFolders(readable=(film.parent,)))
    (result,) = capability.run_batch([((asset,), MediaThumbnailParams())])
    asset.close()
    assert thumbnail(capability, Media(film.read_bytes(), film.name)) == result


def test_batch_equals_single(capability: MediaThumbnail, photo: Photo) -> None:
    """Several requests at once give what each gives alone, again and again."""
    names = ("chelsea", "coffee", "rocket")
    params = MediaThumbnailParams(width=128, height=96, fit="cover", format="webp")
    assets = [Asset(photo(name)) for name in names]
    results = capability.run_batch([((asset,), params) for asset in assets])
    again = capability.run_batch([((asset,), params) for asset in assets])
    alone = [capability.run_batch([((Asset(photo(name)),), params)])[0] for name in names]
    assert alone == results == again
    assert [] == capability.run_batch([])


def test_decodes_at_a_reduced_scale(capability: MediaThumbnail) -> None:
    """Of a large JPEG no more pixels are decoded than are needed."""
    asset = Asset(ImageGenerator((4000, 3000)).media())
    capability.run_batch([((asset,), MediaThumbnailParams())])
    assert [4] == list(asset.picture._decoded)


def test_sample(capability: MediaThumbnail) -> None:
    """The self-test works."""
    (asset,) = capability.sample()
    result = capability.run_batch([((asset,), MediaThumbnailParams())])[0]
    assert (256, 256) == (result.width, result.height)
    asset.close()


def test_json(capability: MediaThumbnail, photo: Photo) -> None:
    """A result is understood by the wire."""
    result = thumbnail(capability, photo("chelsea"), width=8)
    adapter = TypeAdapter(Thumbnail)
    assert {"data", "media_type", "filename", "width", "height"} == set(
        adapter.dump_python(result, mode="json")
    )
    assert result.data == adapter.dump_python(result)["data"]


@pytest.mark.parametrize(
    "params",
    [
        {"width": 0},
        {"width": -1},
        {"width": 4097},
        {"height": 0},
        {"height": 4097},
        {"quality": 0},
        {"quality": 101},
        {"quality": "high"},
        {"format": "gif"},
        {"format": "JPEG"},
        {"fit": "stretch"},
        {"timestamp_s": -0.1},
        {"timestamp_s": "nan"},
        {"timestamp_s": "inf"},
        {"maintain_aspect_ratio": True},
    ],
)
def test_bad_params(params: dict[str, object]) -> None:
    """What is out of range or unknown is refused."""
    with pytest.raises(ValidationError):
        MediaThumbnailParams.model_validate(params)


@pytest.mark.parametrize(
    ("media", "error", "words"),
    [
        (Media(b"Dear diary\n", "a.jpg"), UnsupportedMediaError, "'a.jpg' looks like text/plain"),
        (Media(b"%PDF-1.7\n", "a.pdf"), UnsupportedMediaError, "looks like application/pdf"),
        (Media(b"#EXTM3U\n", "a.mp4"), UnsupportedMediaError, "'a.mp4' looks like"),
        (Media(bytes(99)), UnsupportedMediaError, "the file looks like application/octet-stream"),
        (Media(b"\xff\xd8\xff\xe0 no photo", "a.jpg"), CorruptMediaError, "'a.jpg' "),
        (
            Media(ImageGenerator((200, 150)).encode()[:9000], "a.jpg"),
            CorruptMediaError,
            "'a.jpg' is broken",
        ),
        (Media(b"\0\0\0\x18ftypisom" + bytes(99), "a.mp4"), CorruptMediaError, "'a.mp4' "),
        (ImageGenerator((300, 200)).media(), TooLargeError, "300x200 = 60000 pixels"),
        (VideoGenerator(duration_s=0.1).media(), TooLargeError, "320x240 = 76800 pixels"),
    ],
)
def test_bad_input(
    media: Media, error: type[InputError], words: str, capability: MediaThumbnail
) -> None:
    """What can't be shown is refused by its name, and leaves no file open; the next one works."""
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names are enough
    with pytest.raises(error) as told:
        thumbnail(capability, media, max_pixels=50_000)
    assert words in str(told.value)
    assert before == len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names are enough
    assert (64, 48) == shown(thumbnail(capability, ImageGenerator((64, 48)).media())).size


def test_only_sound(capability: MediaThumbnail, tmp_path: Path) -> None:
    """Sound has no thumbnail, in whatever container."""
    for name in ("a.mp4", "a.webm", "a.m4a", "a.mp3"):
        ffmpeg("-f", "lavfi", "-i", "sine=duration=0.5", tmp_path / name)
        with pytest.raises(UnsupportedMediaError, match=rf"'{name}' "):
            thumbnail(capability, Media((tmp_path / name).read_bytes(), name))


@pytest.mark.parametrize("time_s", [4.5, 1e9])
def test_beyond_the_end(time_s: float, capability: MediaThumbnail, film: Path) -> None:
    """A time after the end is an error that says how long the video is."""
    with pytest.raises(InvalidParameterError, match=r"'film\.mp4' is 4\.000 s long"):
        thumbnail(capability, Media(film.read_bytes(), "film.mp4"), timestamp_s=time_s)


def test_cut_off(capability: MediaThumbnail, tmp_path: Path, film: Path) -> None:
    """What is left of a video has a thumbnail; a time that is lost is an error."""
    path = tmp_path / "cut.mp4"
    ffmpeg("-i", film, "-c", "copy", "-movflags", "+faststart", path)
    whole = path.read_bytes()
    begin = whole.index(b"mdat")
    media = Media(whole[: begin + (len(whole) - begin) // 2], "cut.mp4")
    assert 25 == number_of(shown(thumbnail(capability, media)))
    with pytest.raises(CorruptMediaError, match=r"'cut\.mp4' "):
        thumbnail(capability, media, timestamp_s=3.8)
    half = Media(film.read_bytes()[: film.stat().st_size // 2], "half.mp4")
    with pytest.raises(CorruptMediaError, match=r"'half\.mp4' is broken or cut off"):
        thumbnail(capability, half)
