"""Runs the capability in folders of a test, and makes videos that ``VideoGenerator`` does not."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
import psutil
from av.video.frame import VideoFrame
from PIL import Image

from deployments.hls_streaming import HlsStream, HlsStreaming, HlsStreamingParams, validate
from deployments.runtime.asset import Asset
from deployments.runtime.capability import NodeSettings
from deployments.runtime.errors import ClServeError
from deployments.runtime.ffmpeg import ffmpeg_exe
from deployments.runtime.folders import AllowedFolders, OutputStore
from deployments.runtime.models import ModelStore, load_catalogue
from deployments.runtime.types import Media

_CONFIG = Path(__file__).parents[3] / "config"
FILM = "testsrc2=s=160x120:r=25"


class QuickHlsStreaming(HlsStreaming):
    """As it is, with the encoder's fastest preset."""

    preset = "ultrafast"


class Studio:
    """The capability with a store and a writable folder below ``root``."""

    def __init__(self, root: Path) -> None:
        """Load the capability."""
        self.root = root
        self.writable = root / "writable"
        self.writable.mkdir()
        self.outputs = OutputStore(root / "outputs")
        self.capability = QuickHlsStreaming(
            NodeSettings(
                store=ModelStore(load_catalogue(_CONFIG / "models.yaml")),
                files=AllowedFolders(writable=(self.writable,)),
                outputs=self.outputs,
                num_threads=2,
            ),
        )
        self.capability.load()
        self._assets: list[Asset] = []

    def __enter__(self) -> Self:
        """Return the studio; everything is opened already."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let go of all files."""
        for asset in self._assets:
            asset.close()
        self.capability.close()

    def run(self, media: Media, **params: Any) -> HlsStream:  # noqa: ANN401 - of any parameter
        """Stream a video, as one request does."""
        asset = Asset(media)
        self._assets.append(asset)
        [result] = self.capability.run_batch([((asset.video,), HlsStreamingParams(**params))])
        return result

    def folder(self, result: HlsStream) -> Path:
        """Where a stream in the store lies."""
        return self.outputs.folder / (result.output_id or "")

    def checked(self, media: Media, **params: Any) -> HlsStream:  # noqa: ANN401 - of any parameter
        """Stream a video, and have the validator look at the result once more."""
        result = self.run(media, **params)
        assert [] == validate(self.folder(result))
        return result

    def failure(self, media: Media, **params: Any) -> ClServeError:  # noqa: ANN401 - of any parameter
        """Return what a request fails with."""
        try:
            self.run(media, **params)
        except ClServeError as error:
            return error
        raise AssertionError("it did not fail")

    def film(self, name: str, *options: str, sound: bool = False, picture: str = FILM) -> Media:
        """Make a video with FFmpeg's own test picture and a tone."""
        inputs = ["-f", "lavfi", "-i", picture]
        inputs += ["-f", "lavfi", "-i", "sine=sample_rate=48000"] if sound else []
        return self.ffmpeg(name, *inputs, *options)

    def ffmpeg(self, name: str, *arguments: str) -> Media:
        """Make a file with FFmpeg."""
        path = self.root / name
        command = [ffmpeg_exe(), "-nostdin", "-y", "-v", "error", *arguments, str(path)]
        subprocess.run(command, check=True, cwd=self.root)
        return Media(path.read_bytes(), name)

    def upright(self, media: Media) -> Image.Image:
        """Return a video's first picture as a person sees it."""
        asset = Asset(media)
        self._assets.append(asset)
        return asset.video.frame_at(0)

    def leftovers(self) -> list[str]:
        """Return what no request should leave behind: folders, and FFmpeg still running."""
        places = [self.outputs.folder, self.writable]
        folders = [path.name for place in places if place.is_dir() for path in place.iterdir()]
        return folders + [process.name() for process in running_ffmpegs()]


def running_ffmpegs() -> list[psutil.Process]:
    """Return the FFmpeg processes that this process started."""
    return [
        child
        for child in psutil.Process().children(recursive=True)
        if child.status() != psutil.STATUS_ZOMBIE and child.name().startswith("ffmpeg")
    ]


def frames_of(path: Path) -> Iterator[VideoFrame]:
    """Decode the pictures of a file."""
    with av.open(str(path)) as opened:
        yield from opened.decode(video=0)


def frames(folder: Path, name: str, segment: int = 0) -> list[VideoFrame]:
    """Decode the pictures of one segment of a variant."""
    joined = folder / "joined.mp4"
    parts = [folder / f"{name}_init.mp4", folder / f"{name}_{segment:05}.m4s"]
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    try:
        return list(frames_of(joined))
    finally:
        joined.unlink()
