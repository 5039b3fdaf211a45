"""Suppression: one detection per face, within a view and across views.

Within a view it is MediaPipe's weighted non-maximum suppression (``NonMaxSuppressionCalculator``
with ``algorithm: WEIGHTED``, Apache-2.0, written anew): what overlaps the best candidate is
averaged into it, which steadies box and landmarks.

Across views it is plain suppression that takes the best and drops the rest, with two rules for
what tiles do to faces. A face that a tile's inner edge cuts loses against any whole one, however
sure the detector is of it. And a box that lies mostly *inside* a better one goes too: part of a
face, found in a tile, overlaps the whole face by little of their union.
"""

import numpy as np
from numpy.typing import NDArray

from deployments.face_detection.algo.blazeface import Detections

MAX_INSIDE_SHARE = 0.7
"""A box with more than this share of its area inside a better one is part of the same face."""


def overlaps(
    box: NDArray[np.float32],
    boxes: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Measure how one box overlaps others.

    Args:
        box: (4,) as x1, y1, x2, y2.
        boxes: (N, 4).

    Returns:
        Intersection over union and intersection over the smaller area, (N,) each. A box without
        an area overlaps nothing.

    """
    corners_low = np.maximum(box[:2], boxes[:, :2])
    corners_high = np.minimum(box[2:], boxes[:, 2:])
    intersections = np.prod(np.clip(corners_high - corners_low, 0, None), axis=1)
    area = np.prod(np.clip(box[2:] - box[:2], 0, None))
    areas = np.prod(np.clip(boxes[:, 2:] - boxes[:, :2], 0, None), axis=1)
    tiny = np.finfo(np.float32).tiny  # keeps 0/0 at 0
    unions = np.maximum(area + areas - intersections, tiny)
    return intersections / unions, intersections / np.maximum(np.minimum(area, areas), tiny)


def blend(found: Detections, iou_threshold: float) -> Detections:
    """Weighted non-maximum suppression of one view's candidates.

    Args:
        found: candidates in any order.
        iou_threshold: candidates that overlap the best one by more are averaged into it, weighted
            by their scores.

    Returns:
        One detection per group, best first, with the score of its best candidate.

    """
    order = np.argsort(-found.scores, kind="stable")
    groups: list[Detections] = []
    while len(order):
        best = order[0]
        iou, _ = overlaps(found.boxes[best], found.boxes[order])
        same = iou > iou_threshold
        same[0] = True  # a box without an area does not even overlap itself
        group = order[same]
        order = order[~same]
        weights = found.scores[group] / found.scores[group].sum()
        groups.append(
            Detections(
                (weights @ found.boxes[group])[None],
                np.tensordot(weights, found.landmarks[group], 1)[None],
                found.scores[best][None],
            ),
        )
    return Detections.concatenate(groups)


def merge(found: Detections, cut: NDArray[np.bool_], iou_threshold: float) -> Detections:
    """Suppress duplicates across views.

    Args:
        found: detections of all views in one frame.
        cut: (N,), whether an inner edge of its view cuts the face.
        iou_threshold: a detection that overlaps a better one by more is dropped.

    Returns:
        What is left, whole faces first and then by score. No two of them overlap by more than the
        threshold.

    """
    order = np.lexsort((-found.scores, cut))
    kept: list[int] = []
    while len(order):
        best = int(order[0])
        kept.append(best)
        rest = order[1:]
        iou, inside = overlaps(found.boxes[best], found.boxes[rest])
        order = rest[(iou <= iou_threshold) & (inside <= MAX_INSIDE_SHARE)]
    return found.take(np.array(kept, np.intp))
