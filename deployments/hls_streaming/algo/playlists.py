"""HLS playlists (RFC 8216): written, read, and the bit rates that they must state."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from deployments.hls_streaming.schema import HlsVariant

MASTER = "adaptive.m3u8"
ORIGINAL = "original"
"""Name of the variant that is the video as it is."""

_VERSION = 7  # the first with EXT-X-MAP for all kinds of segments, as hls.js and Safari know it
_ATTRIBUTE = re.compile(r'([A-Z0-9-]+)=("[^"]*"|[^",]*)(?:,|$)')
_FILE_NAME = re.compile(r"[^/\\]+")


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """A variant in the master playlist. Bit rates are in bits per second."""

    playlist: str
    peak_bit_rate: int
    average_bit_rate: int
    width: int
    height: int
    frame_rate: float
    codecs: str


@dataclass(frozen=True, slots=True)
class MediaPlaylist:
    """One variant's segments in order: (file name, seconds); ``init`` is what they begin with."""

    target_duration_s: int
    init: str
    segments: tuple[tuple[str, float], ...]
    ended: bool


def target_duration_s(durations_s: Sequence[float]) -> int:
    """Return what no segment's duration, rounded, is above; players do not expect 0."""
    return max(1, *(int(duration_s + 0.5) for duration_s in durations_s))


def peak_bit_rate(segments: Sequence[tuple[int, float]]) -> int:
    """Return the highest bit rate as RFC 8216 measures it, in bits per second.

    That is over every run of segments that lasts between 0.5 and 1.5 times the target duration,
    so that a last segment of one frame does not count by itself.

    Args:
        segments: (bytes, seconds) of each in order, at least one.

    """
    target_s = target_duration_s([duration_s for _, duration_s in segments])
    peak = 8 * sum(size for size, _ in segments) / sum(duration_s for _, duration_s in segments)
    for start in range(len(segments)):
        run_bytes, run_s = 0, 0.0
        for size, duration_s in segments[start:]:
            run_bytes, run_s = run_bytes + size, run_s + duration_s
            if run_s > 1.5 * target_s:
                break
            if run_s >= 0.5 * target_s:
                peak = max(peak, 8 * run_bytes / run_s)
    return math.ceil(peak)


def average_bit_rate(segments: Sequence[tuple[int, float]]) -> int:
    """Return the bit rate over all segments, (bytes, seconds) each, in bits per second."""
    return math.ceil(8 * sum(size for size, _ in segments) / sum(length for _, length in segments))


def write_master(variants: Sequence[HlsVariant]) -> str:
    """Return the text of a master playlist, the lowest bit rate first.

    Some players begin with the first one: it is there soonest, and they go up from it.
    """
    lines = ["#EXTM3U", f"#EXT-X-VERSION:{_VERSION}", "#EXT-X-INDEPENDENT-SEGMENTS"]
    for variant in sorted(variants, key=lambda variant: variant.peak_bit_rate):
        attributes = (
            f"BANDWIDTH={variant.peak_bit_rate}",
            f"AVERAGE-BANDWIDTH={variant.average_bit_rate}",
            f'CODECS="{variant.codecs}"',
            f"RESOLUTION={variant.width}x{variant.height}",
            f"FRAME-RATE={variant.frame_rate:.3f}",
        )
        lines += [f"#EXT-X-STREAM-INF:{','.join(attributes)}", variant.playlist]
    return "\n".join([*lines, ""])


def write_media(init: str, segments: Sequence[tuple[str, float]]) -> str:
    """Return the text of a variant's playlist: of a complete stream, each segment by itself."""
    lines = [
        "#EXTM3U",
        f"#EXT-X-VERSION:{_VERSION}",
        f"#EXT-X-TARGETDURATION:{target_duration_s([length_s for _, length_s in segments])}",
        "#EXT-X-MEDIA-SEQUENCE:0",
        "#EXT-X-PLAYLIST-TYPE:VOD",
        "#EXT-X-INDEPENDENT-SEGMENTS",
        f'#EXT-X-MAP:URI="{init}"',
    ]
    for name, length_s in segments:
        lines += [f"#EXTINF:{length_s:.6f},", name]
    return "\n".join([*lines, "#EXT-X-ENDLIST", ""])


def read_master(text: str) -> tuple[StreamInfo, ...]:
    """Read a master playlist. Raises ``ValueError`` that says what is wrong with it."""
    found: list[StreamInfo] = []
    info: dict[str, str] | None = None
    for line in _lines(text):
        tag, _, value = line.partition(":")
        if tag == "#EXT-X-STREAM-INF":
            info = _attributes(value)
        elif not line.startswith("#"):
            found.append(_stream_info(line, info or _wrong(f"{line} has no EXT-X-STREAM-INF")))
            info = None
    if not found:
        _wrong("there is no variant in it")
    return tuple(found)


def read_media(text: str) -> MediaPlaylist:
    """Read a variant's playlist. Raises ``ValueError`` that says what is wrong with it."""
    values: dict[str, str] = {}
    segments: list[tuple[str, float]] = []
    for line in _lines(text):
        if line.startswith("#"):
            tag, _, value = line.partition(":")
            values[tag] = value
        else:
            length = values.pop("#EXTINF", None) or _wrong(f"{line} has no EXTINF")
            segments.append((_file_name(line), float(length.partition(",")[0])))
    target = values.get("#EXT-X-TARGETDURATION") or _wrong("it has no EXT-X-TARGETDURATION")
    init = values.get("#EXT-X-MAP") or _wrong("it has no EXT-X-MAP")
    if not segments:
        _wrong("there is no segment in it")
    return MediaPlaylist(
        target_duration_s=int(target),
        init=_file_name(_attributes(init).get("URI", "")),
        segments=tuple(segments),
        ended="#EXT-X-ENDLIST" in values,
    )


def _lines(text: str) -> list[str]:
    lines = [line.strip() for line in text.splitlines()]
    if lines[:1] != ["#EXTM3U"]:
        _wrong("it does not begin with #EXTM3U")
    return [line for line in lines if line]


def _attributes(text: str) -> dict[str, str]:
    return {name: value.strip('"') for name, value in _ATTRIBUTE.findall(text)}


def _stream_info(playlist: str, info: dict[str, str]) -> StreamInfo:
    try:
        width, height = info["RESOLUTION"].split("x")
        return StreamInfo(
            playlist=_file_name(playlist),
            peak_bit_rate=int(info["BANDWIDTH"]),
            average_bit_rate=int(info["AVERAGE-BANDWIDTH"]),
            width=int(width),
            height=int(height),
            frame_rate=float(info["FRAME-RATE"]),
            codecs=info["CODECS"],
        )
    except KeyError as error:
        raise ValueError(f"{playlist} has no {error.args[0]}") from error


def _file_name(uri: str) -> str:
    """Refuse what could lead out of the folder."""
    return uri if _FILE_NAME.fullmatch(uri) and uri != ".." else _wrong(f"{uri!r} is no file name")


def _wrong(message: str) -> NoReturn:
    raise ValueError(message)
