"""A video's packets, read with PyAV as players do: what is damaged is skipped, not an error.

Times are in seconds from the start of the file, which many files do not number as 0.
"""

import math
from contextlib import suppress
from typing import TYPE_CHECKING

import av
import av.error
from av.container import InputContainer
from av.stream import Disposition, Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from av.packet import Packet

_MAX_TICKS = 2**62  # seeking takes 64 bits with a sign


def main_stream(container: InputContainer) -> VideoStream | None:
    """Return what a player shows; a cover picture of a piece of music is no video."""
    moving = [
        stream
        for stream in container.streams.video
        if not stream.disposition & Disposition.attached_pic
    ]
    best = container.streams.best("video")
    return next((stream for stream in moving if stream is best), moving[0] if moving else None)


def seek(container: InputContainer, time_s: float) -> None:
    """Go to the key frame before a time; a file that can't be searched is read from its start."""
    if time_s > 0:
        ticks = (container.start_time or 0) + time_s * av.time_base
        with suppress(av.error.FFmpegError):
            container.seek(int(min(ticks, _MAX_TICKS)))


def read(container: InputContainer, *streams: Stream) -> "Iterator[Packet[Stream]]":
    """Yield the packets of some streams, or of all, as far as the file can be read."""
    # PyAV raises IndexError at the end where a stream appeared only while it read.
    with suppress(av.error.FFmpegError, IndexError):
        yield from container.demux(*streams)


def decode(packet: "Packet[Stream]") -> list[VideoFrame]:
    """Decode a packet of video; nothing comes out of a damaged one."""
    with suppress(av.error.FFmpegError):
        return [frame for frame in packet.decode() if isinstance(frame, VideoFrame)]
    return []


def begins_s(timed: "Packet[Stream] | VideoFrame", container: InputContainer) -> float:
    """When it is shown; -inf where that is not known, as of the empty packet at the end."""
    ticks = timed.dts if timed.pts is None else timed.pts
    if ticks is None or not timed.time_base:
        return -math.inf
    return float(ticks * timed.time_base) - (container.start_time or 0) / av.time_base


def ends_s(packet: "Packet[Stream]", container: InputContainer) -> float:
    """When what comes after it is shown; -inf as in ``begins_s``."""
    return begins_s(packet, container) + float((packet.duration or 0) * (packet.time_base or 0))
