"""A video: what it says of itself, and single frames of it, upright as a person sees them.

Read with PyAV, which holds FFmpeg's libraries: no program is started, and nothing but the file is
opened, since the demuxer is chosen by content from a fixed list. Playlists and the like, which
could make FFmpeg open other files, are not on it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import av
import av.error
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from PIL import Image

from deployments.runtime.errors import CorruptMediaError, UnsupportedMediaError
from deployments.runtime.media_type import MediaType

_DEMUXERS = {
    "video/mp4": "mov",
    "video/quicktime": "mov",
    "video/3gpp": "mov",
    "video/3gpp2": "mov",
    "video/x-matroska": "matroska",
    "video/webm": "matroska",
    "video/x-msvideo": "avi",
    "video/mp2t": "mpegts",
    "video/mpeg": "mpeg",
    "video/x-flv": "flv",
    "video/x-ms-asf": "asf",
    "video/ogg": "ogg",
}

ACCEPTED_MIME_TYPES = frozenset(_DEMUXERS)
"""The media types that a ``Video`` can be made of."""


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """What a video says of itself.

    ``width`` and ``height`` are in pixels as a person sees it, rotation applied;
    ``rotation_degrees`` is how far players turn it counter-clockwise: 0, 90, 180 or 270.
    ``duration_s`` and ``fps`` are 0 where the file does not say. Codecs have FFmpeg's names;
    ``audio_codec`` is None where there is no sound. ``bit_rate`` is that of the whole file, in
    bits per second.
    """

    duration_s: float
    width: int
    height: int
    rotation_degrees: int
    fps: float
    video_codec: str
    audio_codec: str | None
    bit_rate: int
    demuxer: str


class Video:
    """One video file. Every method opens it anew, so threads may share it."""

    def __init__(self, path: Path, media_type: MediaType, name: str = "the video") -> None:
        """Read the header and the first frame, which knows the rotation.

        Raises:
            UnsupportedMediaError: not a video, or of a codec that FFmpeg does not decode.
            CorruptMediaError: broken, cut off, or without a single frame.

        """
        self.path = path
        self.name = name
        demuxer = _DEMUXERS.get(media_type.mime)
        if demuxer is None:
            raise UnsupportedMediaError(
                f"{name} looks like {media_type.mime}; accepted are "
                f"{', '.join(sorted(ACCEPTED_MIME_TYPES))}",
            )
        self._demuxer = demuxer
        with self._open() as (container, stream):
            first = next(container.decode(stream), None)
            if first is None:
                raise CorruptMediaError(f"{name} has not a single frame")
            self.info = _info(container, stream, first, demuxer)

    def frame_at(self, time_s: float) -> Image.Image:
        """Return the frame that is shown at a time, in RGB, upright.

        Args:
            time_s: seconds from the start; the last frame is taken for a time just past it.

        Raises:
            CorruptMediaError: nothing can be decoded there.

        """
        best: VideoFrame | None = None
        with self._open() as (container, stream):
            start_s = float((stream.start_time or 0) * (stream.time_base or 0))
            container.seek(int((start_s + time_s) * av.time_base))
            for frame in container.decode(stream):
                if best is not None and frame.time is not None and frame.time - start_s > time_s:
                    break
                best = frame
        if best is None:
            raise CorruptMediaError(f"{self.name} has no frame that can be decoded at {time_s:g} s")
        return _upright(best)

    def key_frames(self) -> Iterator[tuple[float, Image.Image]]:
        """Yield time in seconds and picture, in RGB and upright, of each key frame in turn.

        Raises:
            CorruptMediaError: the content is broken or cut off.

        """
        with self._open() as (container, stream):
            stream.codec_context.skip_frame = "NONKEY"
            start_s = float((stream.start_time or 0) * (stream.time_base or 0))
            for frame in container.decode(stream):
                yield max(0.0, (frame.time or 0.0) - start_s), _upright(frame)

    @contextmanager
    def _open(self) -> Iterator[tuple[InputContainer, VideoStream]]:
        """Open the file and its main video stream; FFmpeg's errors become ours."""
        try:
            with av.open(str(self.path), format=self._demuxer, metadata_errors="replace") as opened:
                if not opened.streams.video:
                    raise UnsupportedMediaError(f"{self.name} has no video in it, only sound")
                stream = opened.streams.best("video") or opened.streams.video[0]
                assert isinstance(stream, VideoStream)  # noqa: S101 - narrows the type
                yield opened, stream
        except av.error.DecoderNotFoundError as error:
            raise UnsupportedMediaError(f"{self.name} is of an unknown codec") from error
        except (av.error.FFmpegError, ValueError) as error:
            words = getattr(error, "strerror", None) or str(error)
            raise CorruptMediaError(f"{self.name} is broken or cut off: {words}") from error


def _info(
    container: InputContainer,
    stream: VideoStream,
    first: VideoFrame,
    demuxer: str,
) -> VideoInfo:
    rotation = first.rotation % 360
    width, height = first.width, first.height
    if rotation in (90, 270):
        width, height = height, width
    audio = container.streams.audio
    return VideoInfo(
        duration_s=(container.duration or 0) / av.time_base,
        width=width,
        height=height,
        rotation_degrees=rotation,
        fps=float(stream.average_rate or 0),
        video_codec=stream.codec_context.name,
        audio_codec=audio[0].codec_context.name if audio else None,
        bit_rate=container.bit_rate or 0,
        demuxer=demuxer,
    )


def _upright(frame: VideoFrame) -> Image.Image:
    """Turn a decoded frame into a picture as a person sees it."""
    pixels = frame.to_ndarray(format="rgb24")
    return Image.fromarray(np.ascontiguousarray(np.rot90(pixels, k=frame.rotation // 90 % 4)))
