"""A stream plays in a real browser."""

from collections.abc import Callable

import pytest

from deployments.runtime.random_media import VideoGenerator
from deployments.runtime.types import Media
from tests.deployments.hls_streaming.browser import play
from tests.deployments.hls_streaming.studio import Studio

DURATION_S = 3.0


def with_sound(studio: Studio) -> Media:
    """Make a film with a key frame each second, between which no player can switch."""
    options = ("-t", f"{DURATION_S}", "-g", "25", "-bf", "0")
    return studio.film("film.mp4", *options, sound=True, picture="testsrc2=s=320x240:r=25")


def turned(_: Studio) -> Media:
    """Make a film without sound that is stored lying on its side."""
    return VideoGenerator(size=(320, 240), duration_s=DURATION_S, rotation_degrees=90).media()


@pytest.mark.parametrize(
    ("make", "sizes"),
    [
        (with_sound, ["160x120", "266x200", "320x240"]),  # the last of which is the original
        (turned, ["120x160", "200x266"]),
    ],
)
def test_playback(studio: Studio, make: Callable[[Studio], Media], sizes: list[str]) -> None:
    """Headless Chromium plays it to the end with hls.js, and changes from lowest to highest."""
    result = studio.checked(
        make(studio),
        variants="200:500,120:300",
        segment_s=1,
        include_original=True,
    )
    report = play(studio.folder(result))
    assert [] == report["errors"]
    assert sizes == [f"{width}x{height}" for width, height, _ in report["levels"]]
    peaks = {f"{one.width}x{one.height}": one.peak_bit_rate for one in result.variants}
    assert [peaks[size] for size in sizes] == [bit_rate for *_, bit_rate in report["levels"]]
    assert [sizes[0], sizes[-1]] == report["played"]
    assert pytest.approx(DURATION_S, abs=0.1) == report["currentTime"]
    assert report["duration"] == report["currentTime"]
