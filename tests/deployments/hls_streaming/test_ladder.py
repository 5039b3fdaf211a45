"""Which qualities are made of a video, and how large they are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.hls_streaming.algo.ladder import Rung, ladder

DEFAULT = ((720, 3500), (480, 1500), (240, 800))


@pytest.mark.parametrize(
    ("size", "wanted", "expected"),
    [
        ((1, 1), DEFAULT, [Rung("1p_800k", 16, 16, 800)]),
        ((100, 80), DEFAULT, [Rung("80p_800k", 100, 80, 800)]),
        ((321, 239), DEFAULT, [Rung("239p_800k", 320, 238, 800)]),
        ((320, 240), DEFAULT, [Rung("240p_800k", 320, 240, 800)]),
        (
            (853, 480),
            DEFAULT,
            [Rung("480p_1500k", 852, 480, 1500), Rung("240p_800k", 426, 240, 800)],
        ),
        (
            (1920, 1080),
            DEFAULT,
            [
                Rung("720p_3500k", 1280, 720, 3500),
                Rung("480p_1500k", 854, 480, 1500),
                Rung("240p_800k", 426, 240, 800),
            ],
        ),
        ((1080, 1920), ((720, 3500),), [Rung("720p_3500k", 720, 1280, 3500)]),
        ((1920, 800), ((720, 3500),), [Rung("720p_3500k", 1728, 720, 3500)]),
        ((640, 480), ((101, 100),), [Rung("101p_100k", 134, 100, 100)]),
        (
            (640, 480),
            ((240, 400), (240, 800)),
            [Rung("240p_800k", 320, 240, 800), Rung("240p_400k", 320, 240, 400)],
        ),
    ],
)
def test_ladder(
    size: tuple[int, int],
    wanted: tuple[tuple[int, int], ...],
    expected: list[Rung],
) -> None:
    """The shorter side is what counts, and what is larger than the video is left out."""
    assert expected == ladder(*size, wanted)


@given(
    width=st.integers(16, 8000),
    height=st.integers(16, 8000),
    wanted=st.lists(
        st.tuples(st.integers(16, 4320), st.integers(50, 9000)), min_size=1, max_size=8
    ),
)
def test_rungs_are_even_and_not_larger(
    width: int,
    height: int,
    wanted: list[tuple[int, int]],
) -> None:
    """There is always a rung, and none has an odd side or one above the video's."""
    rungs = ladder(width, height, wanted)
    assert rungs
    assert all(rung.width % 2 == 0 and rung.height % 2 == 0 for rung in rungs)
    assert all(rung.width <= width and rung.height <= height for rung in rungs)
