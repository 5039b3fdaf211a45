"""What FFmpeg wrote, read back from the files: sizes, times, codecs.

Each segment is opened by itself behind its variant's ``init`` file, as a player does that begins
there. Nothing is decoded.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import av.error
from av.container import InputContainer

_AVCC_VERSION = 1  # ISO/IEC 14496-15: the first byte, then profile, constraints and level


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment. Times are in seconds on the variant's own clock.

    ``start_s`` is its first picture's time, ``end_s`` where its last picture or sound ends.
    """

    name: str
    size_bytes: int
    start_s: float
    end_s: float
    starts_with_key_frame: bool


@dataclass(frozen=True, slots=True)
class Rendition:
    """A variant as it is in its files. ``codecs`` are RFC 6381's names."""

    width: int
    height: int
    frame_rate: float
    codecs: str
    segments: tuple[Segment, ...]

    @property
    def durations_s(self) -> tuple[float, ...]:
        """How long each segment lasts: up to the next one's start, the last up to its end."""
        ends_s = [segment.start_s for segment in self.segments[1:]] + [self.segments[-1].end_s]
        return tuple(
            end_s - segment.start_s for segment, end_s in zip(self.segments, ends_s, strict=True)
        )

    @property
    def sizes(self) -> tuple[tuple[int, float], ...]:
        """(bytes, seconds) of each segment."""
        return tuple(
            (segment.size_bytes, duration_s)
            for segment, duration_s in zip(self.segments, self.durations_s, strict=True)
        )


@dataclass(slots=True)
class _Stretch:
    """What the packets of one segment add up to."""

    frames: int = 0
    start_s: float = float("inf")
    picture_end_s: float = 0.0
    end_s: float = 0.0
    key_first: bool | None = None


def measure(folder: Path, init: str, names: Sequence[str]) -> Rendition:
    """Read a variant's files.

    Args:
        folder: where they are.
        init: name of the file that each segment needs before it.
        names: of the segments in order.

    Raises:
        ValueError: a file is missing or empty, or is not what it should be.

    """
    segments: list[Segment] = []
    frames, pictures_s = 0, 0.0
    described: tuple[int, int, str] | None = None
    for name in names:
        size_bytes = _size_bytes(folder / init) and _size_bytes(folder / name)
        try:
            with (
                (folder / init).open("rb") as head,
                (folder / name).open("rb") as body,
                av.open(_Joined(head, body), "r", format="mov") as opened,
            ):
                described = described or _describe(opened)
                stretch = _add_up(opened)
        except (av.error.FFmpegError, IndexError) as error:
            raise ValueError(f"{name} can't be read: {error}") from error
        if not stretch.frames:
            raise ValueError(f"{name} has no picture in it")
        frames += stretch.frames
        pictures_s += stretch.picture_end_s - stretch.start_s
        segments.append(
            Segment(name, size_bytes, stretch.start_s, stretch.end_s, bool(stretch.key_first)),
        )
    if described is None or not pictures_s:
        raise ValueError("there are no segments, or they last no time")
    width, height, codecs = described
    return Rendition(width, height, frames / pictures_s, codecs, tuple(segments))


def _add_up(container: InputContainer) -> _Stretch:
    stretch = _Stretch()
    pictures = container.streams.video[0]
    for packet in container.demux():
        if packet.pts is None or packet.time_base is None:
            continue  # the empty packet at the end
        start_s = float(packet.pts * packet.time_base)
        end_s = start_s + float((packet.duration or 0) * packet.time_base)
        stretch.end_s = max(stretch.end_s, end_s)
        if packet.stream is pictures:
            if stretch.key_first is None:
                stretch.key_first = packet.is_keyframe
            stretch.frames += 1
            stretch.start_s = min(stretch.start_s, start_s)
            stretch.picture_end_s = max(stretch.picture_end_s, end_s)
    return stretch


def _describe(container: InputContainer) -> tuple[int, int, str]:
    """Return width, height and codecs. Raises ``IndexError`` where there is no picture."""
    pictures = container.streams.video[0].codec_context
    config = pictures.extradata or b""
    if config[:1] != bytes([_AVCC_VERSION]):
        raise ValueError("the picture is not H.264")
    # ISO/IEC 14496-3: the first five bits of a sound's configuration are the kind of AAC.
    kinds = [(sound.codec_context.extradata or b"")[0] >> 3 for sound in container.streams.audio]
    codecs = ",".join([f"avc1.{config[1:4].hex()}", *(f"mp4a.40.{kind}" for kind in kinds)])
    return pictures.width, pictures.height, codecs


def _size_bytes(path: Path) -> int:
    """Return a file's size. Raises ``ValueError`` when there is none, or nothing in it."""
    size_bytes = path.stat().st_size if path.is_file() else 0
    if not size_bytes:
        raise ValueError(f"{path.name} is missing or empty")
    return size_bytes


class _Joined:
    """Files one after another, for reading."""

    def __init__(self, *files: io.BufferedReader) -> None:
        self._files = list(files)

    def read(self, count: int) -> bytes:
        while self._files:
            data = self._files[0].read(count)
            if data:
                return data
            self._files.pop(0)
        return b""
