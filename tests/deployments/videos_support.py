"""Videos for tests whose frames say their own number, and FFmpeg to make any other."""

import subprocess
from pathlib import Path

import numpy as np
from PIL import Image

from deployments.runtime.ffmpeg import ffmpeg_exe
from deployments.runtime.media_type import detect
from deployments.runtime.video import Video

FPS = 25
FRAMES = 100
_BITS = 8
_STRIPE_PX = 8

# Each frame shows its number as eight black and white stripes, the lowest bit on the left.
_COUNTER = (
    f"nullsrc=size={_BITS * _STRIPE_PX}x48:rate={FPS}:duration={FRAMES / FPS},"
    f"geq=lum='16+219*mod(floor(N/pow(2,floor(X/{_STRIPE_PX}))),2)':cb=128:cr=128,format=yuv420p"
)
H264 = ("-c:v", "libx264", "-preset", "ultrafast", "-g", "25", "-bf", "3", "-sc_threshold", "0")


def ffmpeg(*arguments: str | Path) -> None:
    """Run FFmpeg; raise what it says when it fails."""
    command = [ffmpeg_exe(), "-y", "-nostdin", "-loglevel", "error", *map(str, arguments)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def counter(path: Path, *arguments: str, source: str = _COUNTER) -> Path:
    """Write 100 frames, four seconds, of which each shows its number from 0."""
    ffmpeg("-f", "lavfi", "-i", source, *(arguments or H264), "-threads", "1", path)
    return path


def filmed(path: Path, source: str, *arguments: str) -> Path:
    """Write what a source of FFmpeg's lavfi shows."""
    return counter(path, *arguments, source=source)


def number_of(image: Image.Image) -> int:
    """Read the number that a frame shows."""
    row = np.asarray(image.convert("L").resize((_BITS, 1), Image.Resampling.BOX))[0]
    return sum(1 << bit for bit, light in enumerate(row) if light > 127)


def opened(path: Path, *, max_pixels: int = 10_000_000) -> Video:
    """Open a file, whatever its name says."""
    return Video(path, detect(path), repr(path.name), max_pixels=max_pixels)
