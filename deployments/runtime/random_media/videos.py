"""Made-up videos, encoded by FFmpeg."""

import contextlib
import io
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from deployments.runtime.ffmpeg import ffmpeg_exe
from deployments.runtime.random_media.frames import SceneGenerator
from deployments.runtime.types import Media

Container = Literal["mp4", "mov", "webm"]

# The fastest settings: a test wants a file of the right kind, not a small one.
_VIDEO_CODECS: dict[Container, tuple[str, ...]] = {
    "mp4": ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p"),
    "mov": ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p"),
    "webm": ("-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8", "-b:v", "1M"),
}
_AUDIO_CODECS: dict[Container, str] = {"mp4": "aac", "mov": "aac", "webm": "libopus"}


@dataclass(frozen=True, slots=True)
class VideoGenerator:
    """Makes a video; the same fields give the same frames.

    Attributes:
        container: ``mp4`` and ``mov`` hold H.264 and AAC, ``webm`` holds VP8 and Opus.
        size: (width, height) in pixels as stored, both even, as 4:2:0 colour needs.
        fps: frames per second.
        duration_s: seconds.
        scenes: how many scenes of equal length, with a cut between two of them.
        with_audio: adds a tone of 440 Hz.
        rotation_degrees: how far players are told to turn the picture counter-clockwise;
            0, 90, 180 or 270. Not with ``webm``, which has no such field.
        seed: anything from 0.

    """

    container: Container = "mp4"
    size: tuple[int, int] = (320, 240)
    fps: float = 25.0
    duration_s: float = 2.0
    scenes: int = 1
    with_audio: bool = False
    rotation_degrees: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what FFmpeg would refuse less clearly.

        Raises:
            ValueError: a field is outside what its description allows.

        """
        if any(side < 2 or side % 2 for side in self.size):  # noqa: PLR2004 - the evenness rule
            raise ValueError(f"size: expected even numbers from 2, got {self.size}")
        if self.frame_count < 1:
            raise ValueError(
                f"duration_s: expected at least one frame's time, got {self.duration_s}",
            )
        if not 1 <= self.scenes <= self.frame_count:
            raise ValueError(
                f"scenes: expected 1 to {self.frame_count}, the number of frames; "
                f"got {self.scenes}",
            )
        if self.rotation_degrees not in {0, 90, 180, 270}:
            raise ValueError(
                f"rotation_degrees: expected 0, 90, 180 or 270, got {self.rotation_degrees}",
            )
        if self.rotation_degrees and self.container == "webm":
            raise ValueError("rotation_degrees: webm has no field for it")

    @property
    def frame_count(self) -> int:
        """Number of frames."""
        return round(self.duration_s * self.fps)

    def source(self) -> SceneGenerator:
        """Return the frames that are encoded, with their cuts."""
        length, rest = divmod(self.frame_count, self.scenes)
        lengths = tuple(length + (index < rest) for index in range(self.scenes))
        return SceneGenerator(lengths, size=self.size, fps=self.fps, seed=self.seed)

    def write(self, path: Path) -> None:
        """Encode to a file, which is replaced if it exists.

        Raises:
            RuntimeError: FFmpeg failed; the message is its own.

        """
        command = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{self.size[0]}x{self.size[1]}"]
        command += ["-r", str(self.fps), "-i", "pipe:0"]
        if self.with_audio:
            tone = f"sine=frequency=440:sample_rate=48000:duration={self.duration_s}"
            command += ["-f", "lavfi", "-i", tone, "-c:a", _AUDIO_CODECS[self.container]]
        command += [*_VIDEO_CODECS[self.container], "-threads", "1", "-f", self.container]
        if not self.rotation_degrees:
            _ffmpeg([*command, str(path)], self.source().frames())
            return
        with tempfile.TemporaryDirectory() as folder:
            # In two passes: while encoding, FFmpeg would turn the frames instead.
            upright = Path(folder) / "upright"
            _ffmpeg([*command, str(upright)], self.source().frames())
            turn = ["-display_rotation", str(self.rotation_degrees), "-i", str(upright)]
            _ffmpeg([*turn, "-c", "copy", "-f", self.container, str(path)])

    def encode(self) -> bytes:
        """Return the bytes of the file. Raises what ``write`` raises."""
        # Through a file: the index of an MP4 is written last, which a pipe can't do.
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "video"
            self.write(path)
            return path.read_bytes()

    def media(self) -> Media:
        """Return the video as an upload, with a name that fits its container."""
        return Media(self.encode(), f"video-{self.seed}.{self.container}")


def _ffmpeg(arguments: list[str], frames: Iterable[NDArray[np.uint8]] = ()) -> None:
    """Run FFmpeg, and feed it frames one at a time: a minute of Full HD is 9 GB."""
    command = [ffmpeg_exe(), "-y", "-loglevel", "error", *arguments]
    # Messages go to a file: with a pipe, FFmpeg could wait for us to read while we wait for it.
    with (
        tempfile.TemporaryFile() as messages,
        subprocess.Popen(command, stdin=subprocess.PIPE, stderr=messages) as process,
    ):
        # It closes the pipe early when it fails, and the messages then say why.
        with contextlib.suppress(BrokenPipeError), process.stdin or io.BytesIO() as pipe:
            for frame in frames:
                pipe.write(frame.tobytes())
        if process.wait():
            messages.seek(0)
            said = messages.read().decode(errors="replace").strip()
            raise RuntimeError(f"FFmpeg failed: {said}")
