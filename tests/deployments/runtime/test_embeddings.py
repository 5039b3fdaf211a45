"""Crops as the reference makes them, and what goes into an embedding model and comes out."""

import io

import numpy as np
import pytest
from PIL import Image

from deployments.runtime.embeddings import (
    LONGEST_RESIZED_PX,
    centre_crop,
    to_input,
    unit_length,
)
from deployments.runtime.picture import Picture
from deployments.runtime.random_media import ImageGenerator
from deployments.runtime.types import Media


@pytest.mark.parametrize(
    ("subtract", "divide", "expected"),
    [
        ([127.5], [128], [-0.99609375, 0.0, 0.99609375]),
        ([127.5], [127.5], [-1, 0, 1]),
        ([0], [1], [0, 127.5, 255]),
    ],
)
def test_scaling(subtract: list[float], divide: list[float], expected: list[float]) -> None:
    """Darkest, middle and brightest come out as each model of the catalogue expects them."""
    crop = np.zeros((2, 2, 3), np.uint8)
    crop[1] = 255
    batch = to_input([crop], np.array(subtract, np.float32), np.array(divide, np.float32))
    assert batch.shape == (1, 3, 2, 2)
    assert batch.dtype == np.float32
    assert (batch.min(), batch.mean(), batch.max()) == pytest.approx(expected)


def test_channels() -> None:
    """Channels come first, in their order, each with its own scaling where there are three."""
    crop = np.broadcast_to(np.array([10, 20, 30], np.uint8), (4, 4, 3))
    ones = np.ones(3, np.float32)
    batch = to_input([crop, crop], np.array([10, 10, 10], np.float32), ones * 10)
    assert batch.shape == (2, 3, 4, 4)
    assert batch[1, :, 0, 0].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("embedding", "expected"),
    [([0, 0], [0, 0]), ([3, 4], [0.6, 0.8]), ([-2, 0], [-1, 0])],
)
def test_unit_length(embedding: list[float], expected: list[float]) -> None:
    """Vectors keep their direction and get length 1; zeros stay zeros."""
    scaled = unit_length(np.array(embedding, np.float32))
    assert scaled.dtype == np.float32
    assert scaled.tolist() == pytest.approx(expected)


@pytest.mark.parametrize("size", [(500, 32), (32, 500), (1000, 32)])
@pytest.mark.parametrize("resample", [Image.Resampling.BICUBIC, Image.Resampling.BILINEAR])
def test_long_pictures(size: tuple[int, int], resample: Image.Resampling) -> None:
    """Just below and beyond the limit, the crop is that of the whole picture resized."""
    picture = Picture(ImageGenerator(size=size, format="PNG").media())
    longer = 256 * max(size) // min(size)
    target = (longer, 256) if size[0] > size[1] else (256, longer)
    left, top = ((side - 224) // 2 for side in target)
    whole = picture.rgb().resize(target, resample)
    expected = np.asarray(whole.crop((left, top, left + 224, top + 224)), np.int16)
    got = centre_crop(picture, 256, 224, resample)
    assert (longer > LONGEST_RESIZED_PX) == (size == (1000, 32))
    assert np.abs(expected - got).max() <= 1


def test_line_costs_no_memory() -> None:
    """A line of 100,000 pixels, as a whole 20 GB when resized, is cropped all the same."""
    line = Image.linear_gradient("L").resize((100_000, 1)).convert("RGB")
    buffer = io.BytesIO()
    line.save(buffer, format="PNG")
    crop = centre_crop(Picture(Media(buffer.getvalue())), 256, 224, Image.Resampling.BICUBIC)
    assert (224, 224, 3) == crop.shape


@pytest.mark.parametrize(
    ("size", "decoded"),
    [((2048, 1536), (1024, 768)), ((1536, 2048), (768, 1024)), ((4096, 300), (4096, 300))],
)
def test_decoding(
    monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], decoded: tuple[int, int]
) -> None:
    """A JPEG is decoded at the least scale that has 256 pixels on its shorter side."""
    picture = Picture(ImageGenerator(size=size, quality=50).media())
    seen: list[tuple[int, int]] = []
    decode = picture.rgb

    def watched(long_side_px: int | None = None) -> Image.Image:
        image = decode(long_side_px)
        seen.append(image.size)
        return image

    monkeypatch.setattr(picture, "rgb", watched)
    centre_crop(picture, 256, 224, Image.Resampling.BICUBIC)
    assert [decoded] == seen
