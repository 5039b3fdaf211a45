"""Decoding of the detector's outputs."""

import numpy as np
import pytest

from deployments.face_detection.algo.blazeface import LANDMARKS, VARIANTS, Detections, decode


@pytest.mark.parametrize(
    ("model", "count", "first", "last"),
    [
        ("blazeface_full_range", 2304, (2, 2), (190, 190)),
        ("blazeface_short_range", 896, (4, 4), (120, 120)),
    ],
)
def test_anchors(model: str, count: int, first: tuple[int, int], last: tuple[int, int]) -> None:
    """Anchors are the centres of all cells, as many as the model has rows."""
    anchors = VARIANTS[model].anchors
    assert anchors.shape == (count, 2)
    assert tuple(anchors[0]) == first
    assert tuple(anchors[-1]) == last


def test_anchors_run_along_rows() -> None:
    """X changes before y, and anchors of one cell are neighbours."""
    full, short = (VARIANTS[name].anchors for name in VARIANTS)
    assert full[:3].tolist() == [[2, 2], [6, 2], [10, 2]]
    assert short[:3].tolist() == [[4, 4], [4, 4], [12, 4]]
    assert short[512:519].tolist() == [[8, 8]] * 6 + [[24, 8]]


@pytest.mark.parametrize(
    ("logits", "threshold", "expected"),
    [
        ([], 0.5, []),
        ([-5, -4, -3], 0.5, []),
        ([-5, 3, 0], 0.5, [0.95257, 0.5]),
        ([-5, 3, 0], 0.6, [0.95257]),
        ([1e9, -1e9], 0.5, [1.0]),
        ([1e9, -1e9], 0.0, [1.0, 0.0]),
        ([1e9, 5], 1.0, []),
    ],
)
def test_decode_scores(logits: list[float], threshold: float, expected: list[float]) -> None:
    """Only anchors above the threshold are kept, best first; huge logits do not overflow."""
    count = len(logits)
    found = decode(
        np.zeros((count, 16), np.float32),
        np.array(logits, np.float32),
        np.zeros((count, 2), np.float32),
        threshold,
    )
    assert found.scores.tolist() == pytest.approx(expected, abs=1e-5)
    assert found.boxes.shape == (len(expected), 4)
    assert found.landmarks.shape == (len(expected), len(LANDMARKS), 2)


def test_decode_geometry() -> None:
    """Positions are relative to the anchor; width and height are not."""
    regressors = np.array([[1, 2, 10, 20, *range(12)]], np.float32)
    anchors = np.array([[100, 50]], np.float32)
    found = decode(regressors, np.array([3], np.float32), anchors, 0.5)
    assert found.boxes.tolist() == [[96, 42, 106, 62]]
    assert found.landmarks[0].tolist() == [[100 + x, 51 + x] for x in range(0, 12, 2)]
    assert found.boxes.dtype == found.landmarks.dtype == found.scores.dtype == np.float32


def test_decode_is_bounded() -> None:
    """A threshold of 0 keeps the best anchors, not all of them."""
    anchors = VARIANTS["blazeface_full_range"].anchors
    logits = np.linspace(-9, 9, len(anchors), dtype=np.float32)
    found = decode(np.zeros((len(anchors), 16), np.float32), logits, anchors, 0.0)
    assert len(found) == 256
    assert found.scores[0] > found.scores[-1] > 0.9


def test_concatenate_nothing() -> None:
    """No views give no detections, in the right shapes."""
    nothing = Detections.concatenate([])
    assert nothing.boxes.shape == (0, 4)
    assert nothing.landmarks.shape == (0, 6, 2)
    assert len(nothing) == 0
