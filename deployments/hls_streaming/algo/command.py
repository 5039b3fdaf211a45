"""FFmpeg's arguments: one run that decodes once and encodes all qualities, one that copies.

What is written are fragmented MP4 files (CMAF's way), not MPEG transport streams: hls.js hands
them to the browser as they are, Safari plays them from iOS 10 on, and they are smaller.

Players join the variants on one clock: pictures are numbered in the same units in all of them,
sound as in the source, and the first picture is at 1 s. Without that second, what an encoder needs
before it (frames out of order, AAC's first samples) would be at negative times, and FFmpeg would
move each variant by another amount, in edit lists that hls.js does not read.

Key frames are forced by time, the same frames in all qualities, and nowhere else: so a player can
switch at every segment. All arguments are understood by FFmpeg from 5.1 on.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from deployments.hls_streaming.algo.ladder import Rung
from deployments.hls_streaming.algo.playlists import ORIGINAL
from deployments.hls_streaming.algo.source import Sound, Source

PRESET = "veryfast"
"""Of libx264. 24 s of 720p cost 11, 15, 18, 27 and 36 s of CPU time from ``ultrafast`` to
``medium``: a sixth more than ``superfast``, and 40 % of its bytes."""

_CRF = 23  # libx264's own default; the asked bit rate is a ceiling above it
_BUFFER_S = 2.0  # over which the ceiling holds
_AUDIO_KBITS = 128  # what FFmpeg's guide to AAC advises for stereo
_CLOCK_HZ = 90000  # that of MPEG-2 systems: a multiple of all usual frame rates

# Linear light in which 1 is the white of a page, 203 cd/m² (ITU-R BT.2408), then BT.709's colours
# and Möbius' curve, which leaves what is darker as it is and keeps brighter parts apart. Of the
# curves that FFmpeg has, it comes nearest to swscale's colours, in which thumbnails are made.
_TONE_MAP = (
    "zscale=tin={curve}:pin=bt2020:min=bt2020nc:rin=tv:t=linear:npl=203,format=gbrpf32le,"
    "zscale=p=bt709,tonemap=mobius:desat=0,zscale=t=bt709:m=bt709:r=tv,"
)


@dataclass(frozen=True, slots=True)
class Encoding:
    """How to encode: length of a segment in seconds, libx264's preset, threads per encoder."""

    segment_s: float
    preset: str
    num_threads: int


def encode(source: Source, rungs: Sequence[Rung], how: Encoding) -> list[str]:
    """Return the arguments that decode once and encode every rung.

    Each writes its playlist ``NAME.m3u8``, ``NAME_init.mp4`` and ``NAME_00000.m4s`` and so on
    into the working directory.

    Args:
        source: the video.
        rungs: what to make of it, the largest first.
        how: for all of them.

    """
    threads = str(how.num_threads)
    arguments = ["-threads", threads, *_input(source), "-filter_complex_threads", threads]
    arguments += ["-filter_complex", _filters(source, rungs)]
    last_key = f"prev_forced_t+{how.segment_s:g}"
    for number, rung in enumerate(rungs):
        arguments += ["-map", f"[v{number}]", *_sound(source.sound, copy=False)]
        arguments += ["-c:v", "libx264", "-preset", how.preset, "-threads:v", threads]
        arguments += ["-crf", str(_CRF), "-maxrate", f"{rung.max_kbits}k"]
        arguments += ["-bufsize", f"{rung.max_kbits * _BUFFER_S:g}k"]
        arguments += ["-x264-params", "scenecut=0:open-gop=0:keyint=infinite"]
        arguments += ["-force_key_frames:v", f"expr:if(isnan(prev_forced_t),1,gte(t,{last_key}))"]
        arguments += _output(rung.name, how.segment_s)
    return arguments


def copy(source: Source, segment_s: float) -> list[str]:
    """Return the arguments that offer the video as it is; files are named as ``encode`` does.

    Segments end at the key frames that it has, so they may be longer than asked for.
    """
    arguments = [*_input(source), "-map", f"0:{source.index}", "-c:v", "copy"]
    arguments += _sound(source.sound, copy=True)
    return arguments + _output(ORIGINAL, segment_s)


def _input(source: Source) -> list[str]:
    # A file that was made for it could otherwise make FFmpeg read others.
    return ["-f", source.demuxer, "-protocol_whitelist", "file", "-i", source.path]


def _filters(source: Source, rungs: Sequence[Rung]) -> str:
    """Scale to the largest size, and from there to the others: cheap, and the same frames."""
    first, *others = rungs
    labels = "".join(f"[s{number}]" for number in range(len(rungs)))
    tones = _TONE_MAP.format(curve=source.hdr_curve) if source.hdr_curve else ""
    fields = "yadif=deint=interlaced," if source.interlaced else ""
    graph = (
        f"[0:{source.index}]fps={source.fps},{fields}"
        f"scale={first.width}:{first.height}:out_range=tv,{tones}setsar=1,format=yuv420p,"
        f"split={len(rungs)}{labels};[s0]null[v0]"
    )
    for number, rung in enumerate(others, 1):
        graph += f";[s{number}]scale={rung.width}:{rung.height},setsar=1[v{number}]"
    return graph


def _sound(sound: Sound | None, *, copy: bool) -> list[str]:
    if sound is None:
        return []
    if copy and sound.can_be_copied:
        # Transport streams pack AAC in another way; what is not so packed passes unchanged.
        return ["-map", f"0:{sound.index}", "-c:a", "copy", "-bsf:a", "aac_adtstoasc"]
    channels = min(2, sound.channels)
    return [
        *("-map", f"0:{sound.index}", "-c:a", "aac", "-b:a", f"{_AUDIO_KBITS}k"),
        *("-ac", str(channels), "-ar", str(sound.browser_hz)),
        # Silence where the sound begins late or has gaps, so that it stays with the picture.
        *("-af", "aresample=async=1:first_pts=0"),
    ]


def _output(name: str, segment_s: float) -> list[str]:
    return [
        *("-map_metadata", "-1", "-map_chapters", "-1"),  # where it was filmed is nobody's business
        *("-f", "hls", "-hls_playlist_type", "vod", "-hls_time", f"{segment_s:g}"),
        *("-output_ts_offset", "1"),
        *("-hls_segment_options", f"movflags=+frag_discont:video_track_timescale={_CLOCK_HZ}"),
        *("-hls_segment_type", "fmp4", "-hls_fmp4_init_filename", f"{name}_init.mp4"),
        *("-hls_segment_filename", f"{name}_%05d.m4s", f"{name}.m3u8"),
    ]
