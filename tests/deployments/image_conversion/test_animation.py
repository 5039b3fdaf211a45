"""What animations of one format need to be told in another."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from deployments.image_conversion.algo.animation import (
    gif_loop,
    rounded_times,
    times_played,
    to_palette,
)


@pytest.mark.parametrize(
    ("image_format", "loop", "expected"),
    [
        ("GIF", None, 1),
        ("GIF", 0, 0),
        ("GIF", 1, 2),
        ("WEBP", 0, 0),
        ("WEBP", 3, 3),
        ("PNG", None, 0),
        ("PNG", 1, 1),
        ("AVIF", None, 0),
    ],
)
def test_times_played(image_format: str, loop: int | None, expected: int) -> None:
    """Each format has its own way to say how often it plays; 0 is for ever."""
    assert expected == times_played(image_format, loop)


@pytest.mark.parametrize("plays", [0, 1, 2, 7])
def test_gif_loop(plays: int) -> None:
    """What is written to a GIF is read as the same number."""
    assert plays == times_played("GIF", gif_loop(plays))


@pytest.mark.parametrize(
    ("durations_ms", "step_ms", "expected"),
    [
        ([], 10, []),
        ([0], 10, [0]),
        ([40, 40], 10, [40, 40]),
        ([33.3, 33.3, 33.4], 10, [30, 40, 30]),
        ([16, 16, 16, 16, 16], 10, [20, 10, 20, 10, 20]),
        ([33.4, 33.4], 1, [33, 34]),
    ],
)
def test_rounded_times(durations_ms: list[float], step_ms: int, expected: list[int]) -> None:
    """Durations come in steps."""
    assert expected == rounded_times(durations_ms, step_ms)


@given(st.lists(st.floats(0, 5000), max_size=50), st.sampled_from([1, 10]))
def test_rounding_does_not_add_up(durations_ms: list[float], step_ms: int) -> None:
    """However many frames there are, the last ends where it did, and no time is negative."""
    rounded = rounded_times(durations_ms, step_ms)
    assert sum(rounded) == pytest.approx(sum(durations_ms), abs=step_ms / 2 + 1e-6)
    assert all(duration_ms >= 0 for duration_ms in rounded)


def test_palette() -> None:
    """Less than half opaque is transparent, the rest is opaque and on the background."""
    pixels = np.array(
        [[[9, 9, 9, 0], [9, 9, 9, 127], [0, 0, 0, 128], [70, 80, 90, 255]]], dtype=np.uint8
    )
    indexed = to_palette(Image.fromarray(pixels), (255, 255, 255))
    assert ("P", 255) == (indexed.mode, indexed.info["transparency"])
    result = np.asarray(indexed.convert("RGBA"))[0]
    assert [0, 0, 255, 255] == result[:, 3].tolist()
    assert [[127, 127, 127], [70, 80, 90]] == result[2:, :3].tolist()


def test_palette_of_few_colours_is_exact() -> None:
    """A picture of up to 255 colours keeps each of them."""
    random = np.random.default_rng(0)
    colours = random.integers(0, 256, (255, 4), dtype=np.uint8)
    colours[:, 3] = 255
    pixels = colours[random.integers(0, 255, (40, 50))]
    result = to_palette(Image.fromarray(pixels), (0, 0, 0)).convert("RGBA")
    np.testing.assert_array_equal(pixels, np.asarray(result))
