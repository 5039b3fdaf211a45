"""The hashes of whole files: images, videos and anything else."""

import hashlib
import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from pydantic import TypeAdapter, ValidationError

from deployments.hash import Hash, Hashes, HashParams, capability
from deployments.runtime.asset import Asset
from deployments.runtime.capability import NodeSettings
from deployments.runtime.errors import CancelledRequestError, EmptyInputError
from deployments.runtime.folders import AllowedFolders
from deployments.runtime.models import ModelStore
from deployments.runtime.random_media import ExifFields, ImageGenerator, VideoGenerator
from deployments.runtime.task import Task, running
from deployments.runtime.types import Media

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "HEIF", "AVIF")
TEXT = b"Dear diary, nothing happened.\n"


@pytest.fixture(scope="module")
def hashing(store: ModelStore) -> Callable[..., Hashes]:
    """Hash one file: ``hashing(media_or_asset, **params)``."""
    node = Hash(NodeSettings(store))

    def run(file: Media | Asset | bytes, **params: object) -> Hashes:
        media = Media(file) if isinstance(file, bytes) else file
        asset = media if isinstance(media, Asset) else Asset(media)
        try:
            return node.run_batch([((asset,), HashParams.model_validate(params))])[0]
        finally:
            asset.close()

    return run


def animation(colours: list[str], image_format: str = "GIF", duration: int = 100) -> bytes:
    """Encode an animation of plain pictures."""
    first, *others = [Image.new("RGB", (16, 8), colour) for colour in colours]
    buffer = io.BytesIO()
    first.save(buffer, image_format, save_all=True, append_images=others, duration=duration)
    return buffer.getvalue()


@pytest.mark.parametrize("algorithm", ["sha512", "md5"])
@pytest.mark.parametrize("data", [b"x", TEXT, bytes(range(256)) * 40])
def test_bytes(hashing: Callable[..., Hashes], data: bytes, algorithm: str) -> None:
    """Any file has the hash of its bytes, and nothing else."""
    result = hashing(data, algorithm=algorithm)
    assert hashlib.new(algorithm, data).hexdigest() == result.hash_value
    assert (algorithm, len(data)) == (result.algorithm, result.size_bytes)
    assert (None, None, None, None) == (
        result.phash,
        result.dhash,
        result.content_hash,
        result.problem,
    )


def test_empty() -> None:
    """An empty file is refused before it is hashed."""
    with pytest.raises(EmptyInputError, match=r"'nothing\.txt' is empty"):
        Asset(Media(b"", "nothing.txt"))


@pytest.mark.parametrize("image_format", FORMATS)
def test_images(hashing: Callable[..., Hashes], image_format: str) -> None:
    """Each image format gives all hashes and its media type, twice the same."""
    media = ImageGenerator(size=(160, 120), format=image_format).media()
    result = hashing(media, content=True)
    mime = "image/heic" if image_format == "HEIF" else f"image/{image_format.lower()}"
    assert (hashlib.sha512(media.data).hexdigest(), mime) == (result.hash_value, result.media_type)
    assert (16, 16, 128, None) == (
        len(result.phash or ""),
        len(result.dhash or ""),
        len(result.content_hash or ""),
        result.problem,
    )
    assert result == hashing(media, content=True)


@pytest.mark.parametrize("container", ["mp4", "mov", "webm"])
def test_videos(hashing: Callable[..., Hashes], container: str) -> None:
    """A video has a content hash when asked for, and no perceptual ones."""
    media = VideoGenerator(container=container, size=(64, 48), duration_s=0.5).media()  # pyright: ignore[reportArgumentType]
    plain, full = hashing(media), hashing(media, content=True)
    assert (None, None, None, None) == (plain.phash, plain.dhash, plain.content_hash, plain.problem)
    assert (None, None, 128, None) == (
        full.phash,
        full.dhash,
        len(full.content_hash or ""),
        full.problem,
    )


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF", "HEIF", "AVIF"])
def test_metadata_does_not_change_content(
    hashing: Callable[..., Hashes], image_format: str
) -> None:
    """Files that differ in EXIF only have two hashes of bytes and one of content."""
    fields = (ExifFields(make="One"), ExifFields(make="Another", latitude=1.0, longitude=2.0))
    one, other = (
        hashing(ImageGenerator((96, 64), format=image_format, exif=exif).media(), content=True)
        for exif in fields
    )
    assert one.hash_value != other.hash_value
    assert (one.content_hash, one.phash) == (other.content_hash, other.phash)
    assert one.content_hash is not None


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_copy(hashing: Callable[..., Hashes], orientation: int) -> None:
    """A picture that is turned by its EXIF has the content of the one that is stored so."""
    buffers = io.BytesIO(), io.BytesIO()
    stored = ImageGenerator((96, 64)).image()
    exif = ExifFields(orientation=orientation).to_bytes()
    stored.save(buffers[0], "PNG", exif=exif)
    asset = Asset(Media(buffers[0].getvalue()))
    asset.picture.rgb().save(buffers[1], "TIFF")
    tagged, turned = (hashing(buffer.getvalue(), content=True) for buffer in buffers)
    assert tagged.content_hash == turned.content_hash
    assert (tagged.phash, tagged.dhash) == (turned.phash, turned.dhash)


def test_content_across_containers(hashing: Callable[..., Hashes]) -> None:
    """The same pictures in MP4 and MOV have one content hash, and other pictures another."""
    mp4, mov, other = (
        hashing(
            VideoGenerator(container=kind, size=(64, 48), duration_s=0.4, seed=seed).media(),  # pyright: ignore[reportArgumentType]
            content=True,
        )
        for kind, seed in (("mp4", 0), ("mov", 0), ("mp4", 1))
    )
    assert mp4.hash_value != mov.hash_value
    assert mp4.content_hash == mov.content_hash
    assert mp4.content_hash != other.content_hash


@pytest.mark.parametrize("image_format", ["GIF", "WEBP", "PNG"])
def test_animations(hashing: Callable[..., Hashes], image_format: str) -> None:
    """All frames of an animation count, and when they are shown."""
    contents = {
        hashing(animation(colours, image_format, duration), content=True).content_hash
        for colours, duration in (
            (["red", "blue", "lime"], 100),
            (["red", "lime", "blue"], 100),
            (["red", "blue"], 100),
            (["red", "blue", "lime"], 200),
        )
    }
    assert 4 == len(contents)


def test_bound(hashing: Callable[..., Hashes], monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the most pictures nothing counts any more, neither frames nor key frames."""
    # The encoder's key frames are 250 frames apart: the videos have two and three.
    short, long = (
        VideoGenerator(size=(64, 48), duration_s=duration_s, fps=2).media()
        for duration_s in (130, 255)
    )
    pairs = [
        (Media(animation(["red", "blue", "lime"])), Media(animation(["red", "blue", "black"]))),
        (short, long),
    ]
    for most, equal in ((100, False), (2, True)):
        monkeypatch.setattr(capability, "MAX_PICTURES", most)
        for one, other in pairs:
            contents = [hashing(media, content=True).content_hash for media in (one, other)]
            assert equal == (contents[0] == contents[1])


def test_cancelled(hashing: Callable[..., Hashes]) -> None:
    """Frames are no longer hashed when nobody waits."""
    with running(Task()) as task:
        task.cancel()
        with pytest.raises(CancelledRequestError):
            hashing(animation(["red", "blue"]), content=True)


@pytest.mark.parametrize("image_format", FORMATS)
def test_cut_off_image(hashing: Callable[..., Hashes], image_format: str) -> None:
    """A broken image still has the hash of its bytes, and the result says what is wrong."""
    data = ImageGenerator((160, 120), format=image_format).encode()
    data = data[: len(data) // 2]
    result = hashing(Media(data, "cut.img"), content=True)
    assert hashlib.sha512(data).hexdigest() == result.hash_value
    assert (None, None, None) == (result.phash, result.dhash, result.content_hash)
    assert "'cut.img' " in (result.problem or "")


@pytest.mark.parametrize(
    ("data", "params", "problem"),
    [
        (b"II*\x00\x10\x00\x00\x00CR\x02\x00" + bytes(64), {}, "image/x-canon-cr2; accepted are"),
        (TEXT, {"content": True}, "looks like text/plain; images and videos have a content hash"),
        (b"\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isommp41", {"content": True}, "broken"),
    ],
    ids=["raw", "text", "video"],
)
def test_nothing_to_show(
    hashing: Callable[..., Hashes], data: bytes, params: dict[str, object], problem: str
) -> None:
    """What has no pixels that can be read says so, beside the hash of its bytes."""
    result = hashing(data, **params)
    assert hashlib.sha512(data).hexdigest() == result.hash_value
    assert (None, None) == (result.phash, result.content_hash)
    assert problem in (result.problem or "")


def test_video_without_a_key_frame(
    hashing: Callable[..., Hashes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A video of which no key frame can be decoded has no content hash."""
    media = VideoGenerator(size=(64, 48), duration_s=0.2).media()
    asset = Asset(media)
    monkeypatch.setattr(type(asset.video), "key_frames", lambda _: iter(()))
    result = hashing(asset, content=True)
    assert "'video-0.mp4' has no key frame that can be decoded" == result.problem
    assert result.content_hash is None


def test_too_many_pixels(hashing: Callable[..., Hashes]) -> None:
    """An image past the pixel limit still has the hash of its bytes."""
    media = ImageGenerator((100, 80)).media()
    result = hashing(Asset(media, max_pixels=7999))
    assert hashlib.sha512(media.data).hexdigest() == result.hash_value
    assert "the limit is 7999" in (result.problem or "")


def test_without_pixels(hashing: Callable[..., Hashes]) -> None:
    """Without perceptual hashes nothing is decoded, so a broken image is no problem."""
    result = hashing(ImageGenerator((160, 120)).encode()[:2000], perceptual=False)
    assert (None, None, None) == (result.phash, result.dhash, result.problem)


def test_by_path(
    hashing: Callable[..., Hashes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file named by its path is hashed in pieces, and is not read as a whole."""
    monkeypatch.setattr(capability, "CHUNK_BYTES", 1000)
    data = os.urandom(2500)
    (tmp_path / "some.bin").write_bytes(data)
    media = Media(path=str(tmp_path / "some.bin"))
    asset = Asset(media, files=AllowedFolders(readable=(tmp_path,)))
    result = hashing(asset)
    assert (hashlib.sha512(data).hexdigest(), 2500) == (result.hash_value, result.size_bytes)
    assert "data" not in vars(asset)


def test_stable_across_processes(hashing: Callable[..., Hashes], tmp_path: Path) -> None:
    """Another process gets the same hashes."""
    media = ImageGenerator((640, 480)).media()
    (tmp_path / "photo.jpg").write_bytes(media.data)
    program = (
        "import sys; from pathlib import Path\n"
        "from deployments.hash.algo.content import content_hash\n"
        "from deployments.hash.algo.perceptual import perceptual_hashes\n"
        "from deployments.runtime.picture import Picture\n"
        "from deployments.runtime.types import Media\n"
        "picture = Picture(Media(Path(sys.argv[1]).read_bytes())).rgb()\n"
        "looks = perceptual_hashes(picture)\n"
        "print(content_hash([(0, picture)]), looks.phash, looks.dhash)"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "photo.jpg")]
    answer = subprocess.run(
        command, capture_output=True, check=True, text=True, cwd=Path(__file__).parents[3]
    )
    result = hashing(media, content=True)
    assert [result.content_hash, result.phash, result.dhash] == answer.stdout.split()


def test_batch_equals_singles(store: ModelStore, hashing: Callable[..., Hashes]) -> None:
    """Several files at once give what each gives alone."""
    files = [ImageGenerator((64, 48), seed=seed).encode() for seed in range(3)] + [TEXT]
    batch = [((Asset(Media(data)),), HashParams(content=True)) for data in files]
    expected = [hashing(data, content=True) for data in files]
    assert expected == Hash(NodeSettings(store)).run_batch(batch)


def test_wire(hashing: Callable[..., Hashes]) -> None:
    """A result goes to JSON and back."""
    adapter = TypeAdapter(Hashes)
    result = hashing(TEXT)
    assert result == adapter.validate_json(adapter.dump_json(result))


def test_sample(store: ModelStore, hashing: Callable[..., Hashes]) -> None:
    """The self-test's input has all hashes."""
    (asset,) = Hash(NodeSettings(store)).sample()
    result = hashing(asset, content=True)
    assert (None, "image/png") == (result.problem, result.media_type)


@pytest.mark.parametrize(
    "wrong", [{"algorithm": "sha1"}, {"content": "perhaps"}, {"perceptual": 2}, {"x": 1}]
)
def test_wrong_parameters(wrong: dict[str, object]) -> None:
    """Unknown algorithms and parameters are refused."""
    with pytest.raises(ValidationError):
        HashParams.model_validate(wrong)
