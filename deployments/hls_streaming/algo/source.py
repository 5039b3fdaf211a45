"""What there is to know of a video before FFmpeg encodes or copies it."""

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import av
import av.error
from av.container import InputContainer
from av.video.reformatter import ColorTrc

from deployments.runtime.errors import CorruptMediaError
from deployments.runtime.video import Video
from deployments.runtime.video_packets import main_stream

if TYPE_CHECKING:
    from av.video.stream import VideoStream

_HDR_CURVES = {ColorTrc.SMPTE2084: "smpte2084", ColorTrc.ARIB_STD_B67: "arib-std-b67"}
_PLAYED_EVERYWHERE = frozenset({"yuv420p", "yuvj420p"})  # of H.264: 8 bit, 4:2:0
_MAX_FPS = Fraction(60)  # the highest of Apple's authoring specification for HLS
_MIN_FPS = Fraction(23)  # just below that of films
_USUAL_FPS = Fraction(25)
_MAX_COPIED_CHANNELS = 2
_BROWSER_HZ = frozenset({44100, 48000})  # others are not played by all
_PROGRESSIVE = 1  # FFmpeg's AV_FIELD_PROGRESSIVE; 0 is unknown, above are the kinds of interlacing


@dataclass(frozen=True, slots=True)
class Sound:
    """The sound of a video.

    ``index`` is FFmpeg's number of the stream, ``browser_hz`` the sampling rate to offer it at:
    its own if browsers play that.
    """

    index: int
    channels: int
    browser_hz: int
    can_be_copied: bool


@dataclass(frozen=True, slots=True)
class Source:
    """What FFmpeg is told of a video.

    Attributes:
        path: where it can be opened.
        demuxer: FFmpeg's name of the file format.
        index: FFmpeg's number of the main video stream.
        fps: at how many pictures per second to encode it.
        interlaced: whether frames hold two moments, as of old cameras and television.
        hdr_curve: FFmpeg's name of the transfer function of high dynamic range, or None.
        sound: the main sound of those that can be decoded, or None.
        has_unknown_sound: whether there is sound, and none of it can be decoded.
        not_copied_because: why the video can't be offered as it is; empty when it can.

    """

    path: str
    demuxer: str
    index: int
    fps: Fraction
    interlaced: bool
    hdr_curve: str | None
    sound: Sound | None
    has_unknown_sound: bool
    not_copied_because: str


def look_at(video: Video) -> Source:
    """Read the headers of a video's streams.

    Raises:
        CorruptMediaError: the file can't be opened any more.

    """
    info = video.info
    try:
        with av.open(
            f"file:{video.path}",
            format=info.demuxer,
            options={"protocol_whitelist": "file"},
            metadata_errors="replace",
        ) as opened:
            stream, sound = main_stream(opened), _main_sound(opened)
            assert stream is not None, "there was one before"  # noqa: S101 - narrows the type
            return Source(
                path=f"file:{video.path}",
                demuxer=info.demuxer,
                index=stream.index,
                fps=_frame_rate(stream),
                interlaced=stream.codec_context.field_order > _PROGRESSIVE,
                hdr_curve=_HDR_CURVES.get(ColorTrc(stream.codec_context.color_trc)),
                sound=sound,
                has_unknown_sound=sound is None and bool(opened.streams.audio),
                not_copied_because=_why_not_copied(video, stream),
            )
    except av.error.FFmpegError as error:
        raise CorruptMediaError(f"{video.name} is broken or cut off: {error.strerror}") from error


def _frame_rate(stream: "VideoStream") -> Fraction:
    """Choose the constant rate that a video is encoded at, whatever its own.

    A constant one, since the pictures of a segment would otherwise be shown too early after a
    pause: FFmpeg writes how long the last picture before it lasts before it sees the next one.
    FFmpeg guesses the rate by the first seconds, where the screen of a recording may stand still.
    So a low rate is brought to a multiple of it that shows motion well, at little cost: encoding
    the same picture again is cheap.
    """
    rate = min(stream.guessed_rate or stream.average_rate or _USUAL_FPS, _MAX_FPS)
    return rate * math.ceil(_MIN_FPS / rate)


def _main_sound(container: InputContainer) -> Sound | None:
    """Return the track that a player would take, of those that can be decoded.

    Recent iPhones write a second track in a codec that only they know.
    """
    known = [track for track in container.streams.audio if track.codec_context is not None]
    if not known:
        return None
    best = container.streams.best("audio")
    track = next((track for track in known if track is best), known[0])
    context = track.codec_context
    return Sound(
        index=track.index,
        channels=max(1, context.channels),
        browser_hz=context.sample_rate if context.sample_rate in _BROWSER_HZ else 48000,
        can_be_copied=(
            context.codec.canonical_name == "aac"
            and context.profile == "LC"
            and context.channels <= _MAX_COPIED_CHANNELS
            and context.sample_rate in _BROWSER_HZ
        ),
    )


def _why_not_copied(video: Video, stream: "VideoStream") -> str:
    info = video.info
    if info.video_codec != "h264":
        return f"its codec is {info.video_codec}, and H.264 is what all browsers play"
    if stream.codec_context.pix_fmt not in _PLAYED_EVERYWHERE:
        return f"its pixels are {stream.codec_context.pix_fmt}, and browsers play yuv420p"
    if info.rotation_degrees:
        return f"it is stored turned by {info.rotation_degrees} degrees, which players ignore"
    if info.demuxer == "avi":
        return "AVI files have no times of their frames"
    return ""
