"""Playlists: written as RFC 8216 says, read back the same, and their bit rates."""

import pytest

from deployments.hls_streaming import HlsVariant
from deployments.hls_streaming.algo.playlists import (
    MediaPlaylist,
    StreamInfo,
    average_bit_rate,
    peak_bit_rate,
    read_master,
    read_media,
    target_duration_s,
    write_master,
    write_media,
)

SMALL = HlsVariant("s", 160, 120, 25.0, 900, 800, "avc1.64000c,mp4a.40.2", "s.m3u8", 3)
LARGE = HlsVariant("l", 320, 240, 29.97003, 1900, 1800, "avc1.64000d", "l.m3u8", 3)

MASTER = """\
#EXTM3U
#EXT-X-VERSION:7
#EXT-X-INDEPENDENT-SEGMENTS
#EXT-X-STREAM-INF:BANDWIDTH=900,AVERAGE-BANDWIDTH=800,CODECS="avc1.64000c,mp4a.40.2",\
RESOLUTION=160x120,FRAME-RATE=25.000
s.m3u8
#EXT-X-STREAM-INF:BANDWIDTH=1900,AVERAGE-BANDWIDTH=1800,CODECS="avc1.64000d",\
RESOLUTION=320x240,FRAME-RATE=29.970
l.m3u8
"""
MEDIA = """\
#EXTM3U
#EXT-X-VERSION:7
#EXT-X-TARGETDURATION:6
#EXT-X-MEDIA-SEQUENCE:0
#EXT-X-PLAYLIST-TYPE:VOD
#EXT-X-INDEPENDENT-SEGMENTS
#EXT-X-MAP:URI="s_init.mp4"
#EXTINF:6.000000,
s_0.m4s
#EXTINF:0.040000,
s_1.m4s
#EXT-X-ENDLIST
"""


def test_write_master() -> None:
    """The lowest bit rate comes first, however they are given."""
    assert MASTER == write_master([LARGE, SMALL])


def test_read_master() -> None:
    """What was written is read, commas in quotes and all."""
    expected = (
        StreamInfo("s.m3u8", 900, 800, 160, 120, 25.0, "avc1.64000c,mp4a.40.2"),
        StreamInfo("l.m3u8", 1900, 1800, 320, 240, 29.97, "avc1.64000d"),
    )
    assert expected == read_master(MASTER)


def test_media() -> None:
    """A variant's playlist is written and read."""
    segments = (("s_0.m4s", 6.0), ("s_1.m4s", 0.04))
    assert MEDIA == write_media("s_init.mp4", segments)
    assert MediaPlaylist(6, "s_init.mp4", segments, ended=True) == read_media(MEDIA)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "does not begin with #EXTM3U"),
        ("#EXTM3U\n", "there is no variant"),
        ("#EXTM3U\ns.m3u8\n", "s.m3u8 has no EXT-X-STREAM-INF"),
        (MASTER.replace("BANDWIDTH=900,", "", 1), "s.m3u8 has no BANDWIDTH"),
        (MASTER.replace("RESOLUTION=160x120,", ""), "s.m3u8 has no RESOLUTION"),
        (MASTER.replace("=160x120", "=160"), "not enough values"),
        (MASTER.replace("s.m3u8", "../s.m3u8"), "'../s.m3u8' is no file name"),
    ],
)
def test_bad_master(text: str, message: str) -> None:
    """What is wrong with a master playlist is said."""
    with pytest.raises(ValueError, match=message):
        read_master(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "does not begin with #EXTM3U"),
        ("#EXTM3U\n", "no EXT-X-TARGETDURATION"),
        (MEDIA.replace("#EXT-X-MAP", "#EXT-X-TAP"), "no EXT-X-MAP"),
        (MEDIA.replace("#EXT-X-TARGETDURATION:6", ""), "no EXT-X-TARGETDURATION"),
        (MEDIA.replace("#EXTINF:6.000000,", ""), "s_0.m4s has no EXTINF"),
        (MEDIA.replace("6.000000", "long"), "could not convert"),
        (MEDIA.replace("s_1.m4s", "/etc/passwd"), "'/etc/passwd' is no file name"),
        (MEDIA.replace("s_1.m4s", ".."), "'..' is no file name"),
        (MEDIA.split("#EXTINF", maxsplit=1)[0], "there is no segment"),
    ],
)
def test_bad_media(text: str, message: str) -> None:
    """What is wrong with a variant's playlist is said."""
    with pytest.raises(ValueError, match=message):
        read_media(text)


@pytest.mark.parametrize(
    ("durations_s", "expected"),
    [([0.04], 1), ([6.0], 6), ([6.4, 2.0], 6), ([6.5], 7), ([2.0, 63.2, 1.0], 63)],
)
def test_target_duration(durations_s: list[float], expected: int) -> None:
    """No rounded duration is above it, and it is never 0."""
    assert expected == target_duration_s(durations_s)


@pytest.mark.parametrize(
    ("segments", "peak", "average"),
    [
        ([(1000, 0.04)], 200_000, 200_000),
        ([(1000, 1.0)], 8000, 8000),
        ([(1000, 6.0), (3000, 6.0)], 4000, 2667),
        # A last segment of one frame does not count by itself, only with the one before.
        ([(6000, 6.0), (1000, 0.04)], 9272, 9272),
        # Two short segments together, since one by itself is under half the target duration.
        ([(1000, 6.0), (1000, 2.0), (1500, 2.0)], 5000, 2800),
    ],
)
def test_bit_rates(segments: list[tuple[int, float]], peak: int, average: int) -> None:
    """The peak is that of runs of half to one and a half target durations."""
    assert (peak, average) == (peak_bit_rate(segments), average_bit_rate(segments))
