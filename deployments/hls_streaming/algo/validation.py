"""Whether a folder holds a complete and correct HLS stream: the playlists against the files."""

from pathlib import Path

from deployments.hls_streaming.algo.playlists import (
    MASTER,
    ORIGINAL,
    MediaPlaylist,
    StreamInfo,
    average_bit_rate,
    peak_bit_rate,
    read_master,
    read_media,
)
from deployments.hls_streaming.algo.segments import Rendition, measure

_CLOCK_S = 0.002  # file formats round times, the coarsest of them to a millisecond
_OVERLAP_S = 0.1  # sound reaches past a picture's end by up to two of its frames


def validate(folder: Path) -> list[str]:
    """Check a stream; what is not right is told in one sentence each.

    That the playlists can be read, every segment is there, lasts as long as is said, begins with a
    key frame and follows the one before; that the stated bit rates, sizes and codecs are those of
    the files; that the stream is complete; and that segments of all encoded variants begin at the
    same times, so that a player can switch. The original's begin where its own key frames are.

    Args:
        folder: with ``adaptive.m3u8`` and all files that it leads to.

    Returns:
        Problems, none for a stream that is right.

    """
    try:
        streams = read_master((folder / MASTER).read_text())
    except (OSError, ValueError) as error:
        return [f"{MASTER}: {error}"]
    problems: list[str] = []
    encoded: list[tuple[str, Rendition]] = []
    for stream in streams:
        try:
            playlist = read_media((folder / stream.playlist).read_text())
            found = measure(folder, playlist.init, [name for name, _ in playlist.segments])
        except (OSError, ValueError) as error:
            problems.append(f"{stream.playlist}: {error}")
            continue
        if stream.playlist != f"{ORIGINAL}.m3u8":
            encoded.append((stream.playlist, found))
        wrong = [*_statements(stream, found), *_times(playlist, found)]
        problems += [f"{stream.playlist}: {text}" for text in wrong]
    return problems + _differences(encoded)


def _statements(stream: StreamInfo, found: Rendition) -> list[str]:
    """Compare what the master playlist says with the files."""
    peak, average = peak_bit_rate(found.sizes), average_bit_rate(found.sizes)
    checks = [
        (stream.peak_bit_rate >= peak, f"BANDWIDTH={stream.peak_bit_rate}, its peak is {peak}"),
        (
            average <= stream.average_bit_rate <= stream.peak_bit_rate,
            f"AVERAGE-BANDWIDTH={stream.average_bit_rate}, its average is {average}",
        ),
        (
            (stream.width, stream.height) == (found.width, found.height),
            f"RESOLUTION={stream.width}x{stream.height}, it is {found.width}x{found.height}",
        ),
        (stream.codecs == found.codecs, f"CODECS={stream.codecs}, they are {found.codecs}"),
    ]
    return [text for is_right, text in checks if not is_right]


def _times(playlist: MediaPlaylist, found: Rendition) -> list[str]:
    """Compare a variant's playlist with its files."""
    problems = [] if playlist.ended else ["it has no EXT-X-ENDLIST"]
    for (name, said_s), is_s in zip(playlist.segments, found.durations_s, strict=True):
        if int(said_s + 0.5) > playlist.target_duration_s:
            problems.append(f"{name} lasts {said_s} s, above the target duration")
        if abs(said_s - is_s) > _CLOCK_S:
            problems.append(f"{name} lasts {is_s:.3f} s, not {said_s} s")
    for before, segment in zip(found.segments, found.segments[1:], strict=False):
        if before.end_s - segment.start_s > _OVERLAP_S or segment.start_s <= before.start_s:
            problems.append(
                f"{segment.name} begins at {segment.start_s:.3f} s, and the one before "
                f"ends at {before.end_s:.3f} s",
            )
    problems += [
        f"{segment.name} does not begin with a key frame"
        for segment in found.segments
        if not segment.starts_with_key_frame
    ]
    return problems


def _differences(encoded: list[tuple[str, Rendition]]) -> list[str]:
    """Compare the encoded variants' times with those of the first one."""
    times_s = [
        [segment.start_s for segment in found.segments] + [found.segments[-1].end_s]
        for _, found in encoded
    ]
    return [
        f"{playlist}: segments begin or end elsewhere than in {encoded[0][0]}"
        for (playlist, _), own_s in zip(encoded, times_s, strict=True)
        if len(own_s) != len(times_s[0])
        or any(
            abs(one_s - other_s) > _CLOCK_S
            for one_s, other_s in zip(own_s, times_s[0], strict=True)
        )
    ]
