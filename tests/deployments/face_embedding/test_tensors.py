"""What goes into an embedding model and what comes out."""

import numpy as np
import pytest

from deployments.face_embedding.algo.tensors import to_input, unit_length


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
