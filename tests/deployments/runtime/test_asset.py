"""A request's file: its bytes, its path for other programs, and that nothing of it remains."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from deployments.runtime import asset as asset_module
from deployments.runtime.asset import Asset
from deployments.runtime.errors import (
    CorruptMediaError,
    EmptyInputError,
    ForbiddenPathError,
    InputError,
    NodeUnavailableError,
    PathNotFoundError,
    TooLargeError,
    UnsupportedMediaError,
)
from deployments.runtime.ffmpeg import ffmpeg_exe
from deployments.runtime.file_store import FileStore
from deployments.runtime.folders import AllowedFolders
from deployments.runtime.random_media import ImageGenerator
from deployments.runtime.types import Media
from tests.deployments.runtime.stores_support import s3_endpoint, s3_store
from tests.deployments.videos_support import counter, number_of

JPEG = ImageGenerator((64, 48)).encode()


@pytest.fixture(scope="module")
def video_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A video that counts its frames."""
    return counter(tmp_path_factory.mktemp("video") / "counter.mp4").read_bytes()


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """The URL of an S3 server."""
    with s3_endpoint() as url:
        yield url


@pytest.fixture(params=["sent", "named by its path", "stored", "stored in S3"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Asset]:
    """Make an asset of bytes: sent, named by the path where they lie, or in the files of a job."""

    def make(data: bytes, name: str = "file.bin", **settings: Any) -> Asset:  # noqa: ANN401 - as Asset has them
        if request.param == "sent":
            return Asset(Media(data, name), **settings)
        if request.param.startswith("stored"):
            local = request.param == "stored"
            store = FileStore(str(tmp_path)) if local else s3_store(request.getfixturevalue("s3"))
            store.write(f"job/input/{name}", data)
            files = AllowedFolders(store=store)
            return Asset(Media(stored=f"job/input/{name}"), files=files, **settings)
        path = tmp_path / name
        path.write_bytes(data)
        files = AllowedFolders(readable=(tmp_path,))
        return Asset(Media(path=str(path)), files=files, **settings)

    return make


def test_empty(opened: Callable[..., Asset]) -> None:
    """Nothing is refused by name, however it comes."""
    with pytest.raises(EmptyInputError, match=r"'photo\.jpg' is empty: 0 bytes"):
        opened(b"", "photo.jpg")


def test_facts(opened: Callable[..., Asset]) -> None:
    """Bytes, size, name and type are the file's, however it comes."""
    asset = opened(JPEG, "photo.jpg")
    assert (JPEG, len(JPEG)) == (asset.data, asset.size_bytes)
    assert ("photo.jpg", "'photo.jpg'") == (asset.filename, asset.name)
    assert ("image/jpeg", "image") == (asset.media_type.mime, asset.media_type.kind)
    asset.close()


def test_without_a_name() -> None:
    """A file without a name is called the file."""
    asset = Asset(Media(JPEG))
    assert (None, "the file", "file") == (asset.filename, asset.name, asset.stem)


def test_sent_name_goes_first(tmp_path: Path) -> None:
    """Who names a path may give it another name."""
    (tmp_path / "1.jpg").write_bytes(JPEG)
    media = Media(path=str(tmp_path / "1.jpg"), filename="beach.jpg")
    asset = Asset(media, files=AllowedFolders(readable=(tmp_path,)))
    assert "beach.jpg" == asset.filename
    asset.close()


@pytest.mark.parametrize(
    ("key", "error"),
    [
        ("job/input/missing.jpg", PathNotFoundError),
        ("job/input", InputError),
        ("../secret", ForbiddenPathError),
    ],
)
def test_not_stored(key: str, error: type[InputError], tmp_path: Path) -> None:
    """A key of nothing is refused, and every key where no jobs are kept."""
    store = FileStore(str(tmp_path))
    store.write("job/input/1.jpg", JPEG)
    with pytest.raises(error):
        Asset(Media(stored=key), files=AllowedFolders((tmp_path,), (tmp_path,), store))
    with pytest.raises(PathNotFoundError, match="no jobs are kept here"):
        Asset(Media(stored="job/input/1.jpg"), files=AllowedFolders((tmp_path,)))


@pytest.mark.parametrize(
    ("filename", "stem"),
    [
        ("", "file"),
        (".", "file"),
        ("..", "file"),
        (".jpg", "jpg"),
        ("photo.jpg", "photo"),
        ("archive.tar.gz", "archive.tar"),
        ("a/b\\c.png", "c"),
        ("../../etc/passwd", "passwd"),
        ("..\\..\\boot.ini", "boot"),
        ('a"; rm -rf "x.jpg', "a_rm_-rf_x"),
        ("line\r\nbreak.jpg", "line_break"),
        ("nul\0.jpg", "nul_"),
        ("Füße 写真.jpg", "Füße_写真"),
        ("\ud800.jpg", "_"),
        ("x" * 300 + ".jpg", "x" * 60),
    ],
)
def test_stem(filename: str, stem: str) -> None:
    """What results are named by is a plain part of the name, whatever was sent."""
    assert stem == Asset(Media(b"x", filename)).stem


def test_path(opened: Callable[..., Asset]) -> None:
    """The path leads this and other processes to the bytes, each from the first one on."""
    asset = opened(JPEG)
    for _ in range(2):
        assert JPEG == asset.path.read_bytes()
        assert JPEG == subprocess.check_output([shutil.which("cat") or "cat", str(asset.path)])
    asset.close()
    asset.close()


def test_path_for_ffmpeg(opened: Callable[..., Asset], video_bytes: bytes) -> None:
    """FFmpeg reads it, and can seek in it."""
    asset = opened(video_bytes)
    command = [ffmpeg_exe(), "-loglevel", "error", "-ss", "3", "-i", str(asset.path)]
    pixels = subprocess.check_output(
        [*command, "-frames:v", "1", "-f", "rawvideo", "-pix_fmt", "gray", "-"]
    )
    assert 64 * 48 == len(pixels)
    asset.close()


@pytest.mark.skipif(shutil.which("exiftool") is None, reason="ExifTool is not on this machine")
def test_path_for_exiftool(opened: Callable[..., Asset]) -> None:
    """ExifTool reads it."""
    asset = opened(JPEG)
    command = [shutil.which("exiftool") or "", "-s3", "-ImageSize", str(asset.path)]
    assert "64x48" == subprocess.check_output(command, text=True).strip()
    asset.close()


def test_no_file_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, video_bytes: bytes
) -> None:
    """The copy for other programs has no name in any folder, and is gone when it is closed."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = _open_files()
    asset = Asset(Media(video_bytes, "a.mp4"))
    assert 50 == number_of(asset.video.frame_at(2.0))
    path = asset.path
    assert path.exists()
    assert [] == list(tmp_path.iterdir())
    asset.close()
    assert before == _open_files()
    assert not path.exists() or str(tmp_path) not in str(path.readlink())


def test_nothing_is_left_by_a_killed_process(tmp_path: Path) -> None:
    """Not even a process that is killed leaves a file behind."""
    program = """
import sys, time
from deployments.runtime.asset import Asset
from deployments.runtime.types import Media
from tests.deployments.runtime.stores_support import s3_endpoint, s3_store
asset = Asset(Media(b"x" * 100_000))
print(asset.path.stat().st_size, flush=True)
time.sleep(60)
"""
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    ) as process:
        assert process.stdout is not None
        assert "100000" == process.stdout.readline().strip()
        process.send_signal(signal.SIGKILL)
    assert -signal.SIGKILL == process.returncode
    assert [] == list(tmp_path.iterdir())


def test_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk without room for the copy is a trouble of the node's, and nothing stays open."""
    full = Path("/dev/full")
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda: full.open("w+b"))
    before = _open_files()
    with pytest.raises(NodeUnavailableError, match=r"the disk has no room for 'a\.mp4'"):
        _ = Asset(Media(b"x" * 100, "a.mp4")).path
    assert before == _open_files()


def test_other_trouble_of_the_disk() -> None:
    """Any other failure of the disk is passed on."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
        with pytest.raises(OSError, match="File too large"):
            _ = Asset(Media(b"x" * 100, "a.mp4")).path
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("", ForbiddenPathError),
        ("photo.jpg", ForbiddenPathError),
        ("{}/../secret.jpg", ForbiddenPathError),
        ("{}/link.jpg", ForbiddenPathError),
        ("{}", ForbiddenPathError),
        ("{}/folder", PathNotFoundError),
        ("{}/pipe", PathNotFoundError),
        ("{}/missing.jpg", PathNotFoundError),
    ],
)
def test_bad_paths(path: str, error: type[InputError], tmp_path: Path) -> None:
    """Only files below the allowed folders are opened, and nothing stays open of others."""
    allowed = tmp_path / "allowed"
    (allowed / "folder").mkdir(parents=True)
    os.mkfifo(allowed / "pipe")
    (tmp_path / "secret.jpg").write_bytes(JPEG)
    (allowed / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    before = _open_files()
    with pytest.raises(error):
        Asset(Media(path=path.format(allowed)), files=AllowedFolders(readable=(allowed,)))
    assert before == _open_files()


def test_no_path_by_default(tmp_path: Path) -> None:
    """Without folders in the YAML no path is opened."""
    (tmp_path / "photo.jpg").write_bytes(JPEG)
    with pytest.raises(ForbiddenPathError):
        Asset(Media(path=str(tmp_path / "photo.jpg")))


def test_replaced_after_it_was_opened(tmp_path: Path) -> None:
    """What is put at the path later is not read."""
    path, secret = tmp_path / "photo.jpg", tmp_path / "secret"
    path.write_bytes(JPEG)
    secret.write_bytes(b"secret")
    asset = Asset(Media(path=str(path)), files=AllowedFolders(readable=(tmp_path,)))
    path.unlink()
    path.symlink_to(secret)
    assert (JPEG, JPEG) == (asset.path.read_bytes(), asset.data)
    assert (64, 48) == asset.picture.size
    asset.close()


def test_shrinks_to_nothing(tmp_path: Path, video_bytes: bytes) -> None:
    """A file that is emptied after it was opened gives an error, not a crash."""
    path = tmp_path / "a.mp4"
    path.write_bytes(video_bytes)
    asset = Asset(Media(path=str(path)), files=AllowedFolders(readable=(tmp_path,)))
    film = asset.video
    os.truncate(path, 0)
    assert 0 == asset.size_bytes
    with pytest.raises(CorruptMediaError, match=r"'a\.mp4' is broken or cut off"):
        film.frame_at(1.0)
    asset.close()
    asset = Asset(Media(path=_filled(path, JPEG)), files=AllowedFolders(readable=(tmp_path,)))
    os.truncate(path, 0)
    with pytest.raises(EmptyInputError, match=r"'a\.mp4' is empty"):
        _ = asset.picture
    asset.close()


def test_picture_is_shared(opened: Callable[..., Asset]) -> None:
    """All who look at one file's picture get the same one, also from several threads."""
    asset = opened(JPEG)
    with ThreadPoolExecutor(4) as threads:
        pictures = set(threads.map(lambda _: id(asset.picture), range(8)))
    assert {id(asset.picture)} == pictures
    asset.close()


def test_video_is_shared(opened: Callable[..., Asset], video_bytes: bytes) -> None:
    """All who look at one file's video get the same one."""
    asset = opened(video_bytes, "a.mp4")
    assert asset.video is asset.video
    assert 50 == number_of(asset.video.frame_at(2.0))
    asset.close()


def test_neither_picture_nor_video(opened: Callable[..., Asset]) -> None:
    """Text is refused as both, by its name, each time."""
    asset = opened(b"Dear diary\n", "photo.jpg")
    for _ in range(2):
        with pytest.raises(UnsupportedMediaError, match=r"'photo\.jpg' looks like text/plain"):
            _ = asset.picture
        with pytest.raises(UnsupportedMediaError, match=r"'photo\.jpg' looks like text/plain"):
            _ = asset.video
    asset.close()


def test_limit_of_pixels(opened: Callable[..., Asset], video_bytes: bytes) -> None:
    """The limit of pixels holds for pictures and for videos."""
    for data in (JPEG, video_bytes):
        asset = opened(data, max_pixels=64 * 48 - 1)
        with pytest.raises(TooLargeError, match="64x48 = 3072 pixels"):
            _ = asset.picture if data is JPEG else asset.video
        asset.close()


def test_too_large_for_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, video_bytes: bytes
) -> None:
    """A large file is not read as a whole, and needs not be to be a video or no picture."""
    monkeypatch.setattr(asset_module, "MAX_BYTES_IN_MEMORY", 2**20)
    path = tmp_path / "film.mp4"
    path.write_bytes(video_bytes)
    os.truncate(path, 3 * 2**30)
    asset = Asset(Media(path=str(path)), files=AllowedFolders(readable=(tmp_path,)))
    assert 50 == number_of(asset.video.frame_at(2.0))
    with pytest.raises(TooLargeError, match=r"'film\.mp4' has 3072 MiB; the limit .* is 1 MiB"):
        _ = asset.data
    with pytest.raises(UnsupportedMediaError, match="looks like video/mp4"):
        _ = asset.picture
    asset.close()


def _filled(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    return str(path)


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names are enough
