"""A video: what it says of itself, and single frames of it, upright as a person sees them.

Read with PyAV, which holds FFmpeg's libraries: no program is started, and nothing but the file is
opened, since the demuxer is chosen by content from a fixed list. Playlists and the like, which
could make FFmpeg open other files, are not on it.

Damage costs no more than it must: what can't be decoded is skipped, as players do, and only a
video of which nothing is left to show is an error.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import av
import av.error
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from PIL import Image

from deployments.runtime import video_packets as packets
from deployments.runtime.errors import (
    CorruptMediaError,
    InvalidParameterError,
    TooLargeError,
    UnsupportedMediaError,
)
from deployments.runtime.media_type import MediaType
from deployments.runtime.picture import DEFAULT_MAX_PIXELS
from deployments.runtime.task import current_task
from deployments.runtime.video_frame import rotation_degrees, upright, upright_size

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

_STEPS_BACK_S = (0.0, 2.0, 10.0, 60.0)
"""How far before the asked time decoding begins: at the key frame that the demuxer's index knows,
else further back. MPEG streams have no index, and their key frames are seconds apart."""

_MAX_FRAMES = 1500
"""How many frames are decoded in search of one: a minute of them, where encoders write a key
frame every ten seconds or more often. In Full HD that took 3 s on one core of x86-64."""

_SAME_TIME_S = 0.0005  # file formats round times, the coarsest of them to a millisecond
_CUT_OFF_S = 1.0  # what a header says of the length is not much more exact in edited files


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """What a video says of itself.

    ``width`` and ``height`` are in pixels as a person sees it, rotation and the shape of its
    pixels applied; ``rotation_degrees`` is how far players turn it counter-clockwise: 0, 90, 180
    or 270. ``duration_s`` and ``fps``, the average, are 0 where the file does not say. Codecs
    have FFmpeg's names; ``audio_codec`` is None where there is no sound. ``bit_rate`` is that of
    the whole file, in bits per second.
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

    def __init__(
        self,
        path: Path,
        media_type: MediaType,
        name: str = "the video",
        *,
        max_pixels: int = DEFAULT_MAX_PIXELS,
    ) -> None:
        """Read the header and the first frame, which knows the rotation.

        Raises:
            UnsupportedMediaError: not a video, or of a codec that FFmpeg does not decode.
            CorruptMediaError: broken, cut off, or without a single frame.
            TooLargeError: a frame has more than ``max_pixels``.

        """
        self.path = path
        self.name = name
        self._max_pixels = max_pixels
        demuxer = _DEMUXERS.get(media_type.mime)
        if demuxer is None:
            raise UnsupportedMediaError(
                f"{name} looks like {media_type.mime}; accepted are "
                f"{', '.join(sorted(ACCEPTED_MIME_TYPES))}",
            )
        self._demuxer = demuxer
        with self._open() as (container, stream):
            first = next(self._decode(container, stream), None)
            if first is None:
                raise CorruptMediaError(f"{name} has not a single frame that can be decoded")
            self.info = _info(container, stream, first, demuxer)
            self._check_size(*upright_size(first, stream.sample_aspect_ratio))

    def frame_at(self, time_s: float) -> Image.Image:
        """Return the frame that is shown at a time, in RGB, upright.

        Args:
            time_s: seconds from the start, up to the end of the video.

        Raises:
            InvalidParameterError: the video is not that long, or the next key frame before that
                time is too far away.
            CorruptMediaError: nothing can be decoded there.

        """
        if 0 < self.info.duration_s < time_s - _SAME_TIME_S:
            raise self._too_late(time_s, self.info.duration_s)
        for step_s in _STEPS_BACK_S:
            from_s = max(0.0, time_s - step_s)
            with self._open() as (container, stream):
                frame = self._shown_at(container, stream, time_s, from_s)
                if frame is not None:
                    return self._upright(frame, stream)
            if from_s == 0:
                break
        raise CorruptMediaError(f"{self.name} has no frame that can be decoded at {time_s:g} s")

    def key_frames(self) -> Iterator[tuple[float, Image.Image]]:
        """Yield time in seconds and picture, in RGB and upright, of each key frame in turn.

        Key frames that are damaged are left out, so there may be none at all.

        Raises:
            CorruptMediaError: the file can't be opened any more.

        """
        task = current_task()
        with self._open() as (container, stream):
            for packet in packets.read(container, stream):
                task.raise_if_cancelled()
                if not packet.is_keyframe:
                    continue
                frames = packets.decode(packet)
                # A decoder keeps frames back until it knows their order: ask for them.
                with suppress(av.error.FFmpegError):
                    frames += stream.codec_context.decode(None)
                stream.codec_context.flush_buffers()
                if frames:
                    yield (
                        max(0.0, packets.begins_s(packet, container)),
                        self._upright(frames[0], stream),
                    )

    @contextmanager
    def _open(self) -> Iterator[tuple[InputContainer, VideoStream]]:
        """Open the file and its main video stream; FFmpeg's errors become ours."""
        # FFmpeg applies the limit to frames whose size only the decoder finds out.
        limit = {"max_pixels": str(self._max_pixels)}
        try:
            with av.open(
                f"file:{self.path}",
                format=self._demuxer,
                options={"protocol_whitelist": "file", **limit},
                metadata_errors="replace",
            ) as opened:
                stream = packets.main_stream(opened)
                if stream is None:
                    raise UnsupportedMediaError(f"{self.name} has no video in it, only sound")
                if stream.codec_context is None:
                    raise UnsupportedMediaError(f"{self.name} is of a codec that is not known here")
                self._check_size(stream.codec_context.width, stream.codec_context.height)
                stream.codec_context.options = limit
                # One request must not take all cores of a small machine.
                stream.codec_context.thread_count = 1
                yield opened, stream
        except av.error.FFmpegError as error:
            words = error.strerror or str(error)
            raise CorruptMediaError(f"{self.name} is broken or cut off: {words}") from error

    def _upright(self, frame: VideoFrame, stream: VideoStream) -> Image.Image:
        # Frames may change in size, and pixels that are no squares make them larger.
        self._check_size(*upright_size(frame, stream.sample_aspect_ratio))
        return upright(frame, stream.sample_aspect_ratio)

    def _check_size(self, width: int, height: int) -> None:
        if width * height > self._max_pixels:
            raise TooLargeError(
                f"{self.name} has frames of {width}x{height} = {width * height} pixels; "
                f"the limit is {self._max_pixels}",
            )

    def _too_late(self, time_s: float, duration_s: float) -> InvalidParameterError:
        return InvalidParameterError(
            f"{self.name} is {duration_s:.3f} s long; there is no frame at {time_s:g} s"
        )

    def _decode(
        self, container: InputContainer, stream: VideoStream, from_s: float = 0.0
    ) -> Iterator[VideoFrame]:
        """Yield the frames from the key frame at or before ``from_s`` on, in the order of time.

        Ends where the file does, or where nothing can be decoded for long.
        """
        task = current_task()
        packets.seek(container, from_s)
        key_seen = from_s == 0
        barren = 0
        for packet in packets.read(container, stream):
            task.raise_if_cancelled()
            key_seen = key_seen or packet.is_keyframe
            frames = packets.decode(packet) if key_seen else []
            barren = 0 if frames else barren + 1
            if barren > _MAX_FRAMES:
                return
            yield from frames

    def _shown_at(
        self, container: InputContainer, stream: VideoStream, time_s: float, from_s: float
    ) -> VideoFrame | None:
        """Decode from ``from_s`` up to ``time_s``; None where that begins too late.

        With ``from_s`` 0, the first frame counts for all times before it.
        """
        shown: VideoFrame | None = None
        for number, frame in enumerate(self._decode(container, stream, from_s)):
            if packets.begins_s(frame, container) > time_s + _SAME_TIME_S:
                return shown if shown is not None or from_s > 0 else frame
            if number >= _MAX_FRAMES:
                raise InvalidParameterError(
                    f"{self.name} has no key frame within {_MAX_FRAMES} frames before "
                    f"{time_s:g} s; ask for an earlier time"
                )
            shown = frame
        if shown is not None:
            self._check_end(time_s, from_s)
        return shown

    def _check_end(self, time_s: float, from_s: float) -> None:
        """Check that the file goes on to ``time_s``: a last frame stays while there is sound."""
        task = current_task()
        ends_s = 0.0
        with self._open() as (container, _):
            packets.seek(container, from_s)
            for packet in packets.read(container):
                task.raise_if_cancelled()
                ends_s = max(ends_s, packets.ends_s(packet, container))
        if not self.info.duration_s and ends_s + _SAME_TIME_S < time_s:
            raise self._too_late(time_s, ends_s)
        if ends_s + _CUT_OFF_S < time_s:
            raise CorruptMediaError(
                f"{self.name} is cut off after {ends_s:.3f} s; there is no frame at {time_s:g} s"
            )


def _info(
    container: InputContainer,
    stream: VideoStream,
    first: VideoFrame,
    demuxer: str,
) -> VideoInfo:
    width, height = upright_size(first, stream.sample_aspect_ratio)
    duration_s = (container.duration or 0) / av.time_base
    if not duration_s:
        duration_s = float((stream.duration or 0) * (stream.time_base or 0))
    bit_rate = container.bit_rate
    if not bit_rate and duration_s:
        bit_rate = round(container.size * 8 / duration_s)
    sounds = [sound.codec_context for sound in container.streams.audio if sound.codec_context]
    return VideoInfo(
        duration_s=duration_s,
        width=width,
        height=height,
        rotation_degrees=rotation_degrees(first),
        fps=float(stream.average_rate or stream.guessed_rate or 0),
        video_codec=stream.codec_context.codec.canonical_name,
        audio_codec=sounds[0].codec.canonical_name if sounds else None,
        bit_rate=bit_rate or 0,
        demuxer=demuxer,
    )
