"""Cosines and the probabilities that CLIP makes of them."""

import math

import numpy as np
import pytest

from deployments.clip_similarity.algo.scores import cosines, probabilities


@pytest.mark.parametrize(
    ("image", "texts", "expected"),
    [
        ([1, 0], np.empty((0, 2)), []),
        ([1, 0], [[1, 0], [0, 1], [-1, 0]], [1, 0, -1]),
        ([3, 4], [[30, 40], [4, 3]], [1, 0.96]),
        ([0, 0], [[1, 0]], [0]),
        ([1, 0], [[0, 0]], [0]),
    ],
)
def test_cosines(image: list[float], texts: list[list[float]], expected: list[float]) -> None:
    """The length of the embeddings does not matter, and none at all is at a right angle to all."""
    got = cosines(np.array(image, np.float32), np.array(texts, np.float32))
    assert expected == pytest.approx(got.tolist())


@pytest.mark.parametrize(
    ("cosine", "expected"),
    [
        ([], []),
        ([0.3], [1.0]),
        ([0.2, 0.2], [0.5, 0.5]),
        ([0.25, 0.24], [1 / (1 + math.exp(-1)), 1 / (1 + math.exp(1))]),
        ([-1.0, 1.0], [0.0, 1.0]),
    ],
)
def test_probabilities(cosine: list[float], expected: list[float]) -> None:
    """A hundredth of a cosine is worth a factor of e, and all add up to 1."""
    got = probabilities(np.array(cosine, np.float64))
    assert expected == pytest.approx(got.tolist())
