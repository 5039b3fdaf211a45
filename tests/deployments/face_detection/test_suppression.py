"""Suppression within and across views."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from deployments.face_detection.algo.blazeface import Detections
from deployments.face_detection.algo.suppression import MAX_INSIDE_SHARE, blend, merge, overlaps


def detections(boxes: list[tuple[float, ...]], scores: list[float]) -> Detections:
    """Make detections whose landmarks all lie at the box's first corner."""
    corners = np.array(boxes, np.float32).reshape(-1, 4)
    landmarks = np.repeat(corners[:, None, :2], 6, axis=1)
    return Detections(corners, landmarks, np.array(scores, np.float32))


@st.composite
def any_detections(draw: st.DrawFn) -> Detections:
    """Up to 30 boxes of whole pixels, so that equal and empty ones come up, with any scores."""
    count = draw(st.integers(0, 30))
    corners = draw(arrays(np.float32, (count, 2), elements=st.integers(0, 40).map(float)))
    sizes = draw(arrays(np.float32, (count, 2), elements=st.integers(0, 20).map(float)))
    scores = draw(arrays(np.float32, count, elements=st.floats(0.0625, 1, width=32)))
    boxes = np.concatenate([corners, corners + sizes], axis=1)
    return Detections(boxes, np.repeat(corners[:, None], 6, axis=1), scores)


thresholds = st.floats(0, 0.9)


@pytest.mark.parametrize(
    ("boxes", "expected_iou", "expected_inside"),
    [
        ([], [], []),
        ([(0, 0, 10, 10)], [1], [1]),
        ([(20, 0, 30, 10)], [0], [0]),
        ([(10, 0, 20, 10)], [0], [0]),
        ([(5, 0, 15, 10)], [1 / 3], [1 / 2]),
        ([(2, 2, 4, 4)], [0.04], [1]),
        ([(3, 3, 3, 3), (4, 4, 2, 2)], [0, 0], [0, 0]),
    ],
)
def test_overlaps(
    boxes: list[tuple[float, ...]],
    expected_iou: list[float],
    expected_inside: list[float],
) -> None:
    """Both measures, for boxes apart, touching, crossing, inside and without an area."""
    box = np.array([0, 0, 10, 10], np.float32)
    iou, inside = overlaps(box, np.array(boxes, np.float32).reshape(-1, 4))
    assert iou.tolist() == pytest.approx(expected_iou)
    assert inside.tolist() == pytest.approx(expected_inside)


@pytest.mark.parametrize(
    ("boxes", "scores", "expected_boxes", "expected_scores"),
    [
        ([], [], [], []),
        ([(0, 0, 10, 10)], [0.7], [(0, 0, 10, 10)], [0.7]),
        (
            [(2, 0, 12, 10), (0, 0, 10, 10)],
            [0.25, 0.75],
            [(0.5, 0, 10.5, 10)],
            [0.75],
        ),
        (
            [(0, 0, 10, 10), (30, 0, 40, 10)],
            [0.5, 0.75],
            [(30, 0, 40, 10), (0, 0, 10, 10)],
            [0.75, 0.5],
        ),
        ([(5, 5, 5, 5)], [0.5], [(5, 5, 5, 5)], [0.5]),
    ],
)
def test_blend(
    boxes: list[tuple[float, ...]],
    scores: list[float],
    expected_boxes: list[tuple[float, ...]],
    expected_scores: list[float],
) -> None:
    """Overlapping candidates become their average, weighted by score, with the best score."""
    found = blend(detections(boxes, scores), 0.3)
    np.testing.assert_allclose(found.boxes, np.array(expected_boxes).reshape(-1, 4), atol=1e-5)
    assert found.scores.tolist() == pytest.approx(expected_scores)
    np.testing.assert_allclose(found.landmarks[:, 0], found.boxes[:, :2], atol=1e-5)


@pytest.mark.parametrize(
    ("boxes", "scores", "cut", "expected"),
    [
        ([], [], [], []),
        ([(0, 0, 10, 10), (1, 0, 11, 10)], [0.6, 0.7], [False, False], [1]),
        # A cut face loses against the whole one, however confident.
        ([(0, 0, 10, 10), (4, 0, 10, 10)], [0.6, 0.9], [False, True], [0]),
        # It stays where no view has the whole one.
        ([(0, 0, 10, 10), (50, 0, 60, 10)], [0.6, 0.9], [False, True], [0, 1]),
        # A part of a face, small against their union, lies inside the whole one.
        ([(0, 0, 10, 10), (3, 3, 6, 6)], [0.8, 0.6], [False, False], [0]),
        # Faces side by side that overlap a little are two.
        ([(0, 0, 10, 10), (9, 0, 19, 10)], [0.8, 0.6], [False, False], [0, 1]),
    ],
)
def test_merge(
    boxes: list[tuple[float, ...]],
    scores: list[float],
    cut: list[bool],
    expected: list[int],
) -> None:
    """One detection per face across views, the whole one before a cut one."""
    found = detections(boxes, scores)
    kept = merge(found, np.array(cut, bool), 0.3)
    assert kept.boxes.tolist() == [list(boxes[row]) for row in expected]


@given(any_detections(), thresholds)
def test_blend_averages(found: Detections, threshold: float) -> None:
    """Blended boxes stay within the range of the candidates, and no score is new."""
    blended = blend(found, threshold)
    assert (len(blended) == 0) == (len(found) == 0)
    assert len(blended) <= len(found)
    assert set(blended.scores.tolist()) <= set(found.scores.tolist())
    assert blended.scores.tolist() == sorted(blended.scores.tolist(), reverse=True)
    if len(found):
        assert np.all(blended.boxes >= found.boxes.min(axis=0) - 1e-3)
        assert np.all(blended.boxes <= found.boxes.max(axis=0) + 1e-3)


@given(any_detections(), thresholds, st.data())
def test_merge_leaves_no_duplicates(
    found: Detections, threshold: float, data: st.DataObject
) -> None:
    """What is left does not overlap, what is dropped does, and a second pass changes nothing."""
    cut = data.draw(arrays(np.bool_, len(found)))
    kept = merge(found, cut, threshold)
    for row in range(len(kept)):
        iou, inside = overlaps(kept.boxes[row], np.delete(kept.boxes, row, axis=0))
        assert np.all(iou <= threshold)
        assert np.all(inside <= MAX_INSIDE_SHARE)
    assert (len(kept) == 0) == (len(found) == 0)
    whole = np.zeros(len(kept), bool)
    assert len(merge(kept, whole, threshold)) == len(kept)


@given(any_detections(), thresholds)
def test_merge_is_independent_of_order(found: Detections, threshold: float) -> None:
    """The order of views does not decide, as long as scores differ."""
    _, rows = np.unique(found.scores, return_index=True)
    found = found.take(rows)
    forward = merge(found, np.zeros(len(found), bool), threshold)
    reverse = np.arange(len(found))[::-1]
    backward = merge(found.take(reverse), np.zeros(len(found), bool), threshold)
    assert forward.boxes.tolist() == backward.boxes.tolist()
