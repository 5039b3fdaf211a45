"""How far two graphs agree, by embeddings and by faces."""

import math

import numpy as np
import pytest

from deployments.runtime.quantization import cosine_agreement, detection_agreement
from deployments.runtime.types import Box, DetectedFaces, Face

LEFT = Box(0.1, 0.1, 0.3, 0.3)
NEAR_LEFT = Box(0.1, 0.1, 0.3, 0.28)  # 0.9 of its area
RIGHT = Box(0.6, 0.6, 0.8, 0.8)


def faces(*boxes: Box) -> DetectedFaces:
    """Make up a photo's faces."""
    return DetectedFaces(tuple(Face(box, 0.9, {}) for box in boxes), 100, 100)


@pytest.mark.parametrize(
    ("found", "mean", "worst"),
    [
        ([[1, 0], [0, 2]], 1.0, 1.0),
        ([[1, 0], [0, 0.5]], 1.0, 1.0),
        ([[1, 0], [1, 1]], 0.854, 0.707),
        ([[0, 0], [0, 1]], 0.5, 0.0),
        ([[-1, 0], [0, 1]], 0.0, -1.0),
        ([[math.nan, 0], [0, 1]], 0.5, 0.0),
        ([[math.inf, 0], [0, 1]], 0.5, 0.0),
    ],
)
def test_cosines(found: list[list[float]], mean: float, worst: float) -> None:
    """Lengths do not matter; zeros, and what is not finite, agree with nothing."""
    expected = np.array([[1, 0], [0, 2]], np.float32)
    measures = cosine_agreement(expected, np.array(found, np.float32))
    assert [mean, worst] == pytest.approx([m.value for m in measures], abs=1e-3)
    assert (mean == 1.0) == all(m.holds for m in measures)


@pytest.mark.parametrize(
    ("expected", "found", "values"),
    [
        ([faces(LEFT)], [faces(LEFT)], (1, 1, 1)),
        ([faces(LEFT, RIGHT)], [faces(RIGHT, LEFT)], (1, 1, 1)),
        ([faces(LEFT)], [faces(NEAR_LEFT)], (1, 1, 0.9)),
        ([faces(LEFT, RIGHT)], [faces(LEFT)], (0.5, 1, 1)),
        ([faces(LEFT)], [faces(LEFT, RIGHT)], (1, 0.5, 1)),
        ([faces(LEFT)], [faces(LEFT, NEAR_LEFT)], (1, 0.5, 1)),
        ([faces(LEFT)], [faces()], (0, 0, 0)),
        ([faces(LEFT)], [faces(RIGHT)], (0, 0, 0)),
        ([faces(LEFT), faces()], [faces(), faces(LEFT)], (0, 0, 0)),
        ([faces(Box(0.1, 0.1, 0.1, 0.1))], [faces(Box(0.1, 0.1, 0.1, 0.1))], (0, 0, 0)),
    ],
)
def test_detections(
    expected: list[DetectedFaces], found: list[DetectedFaces], values: tuple[float, ...]
) -> None:
    """Faces are paired within a photo; each that is lost, invented or moved shows."""
    measures = detection_agreement(expected, found)
    assert ["recall", "precision", "box IoU"] == [m.name for m in measures]
    assert values == pytest.approx([m.value for m in measures])
