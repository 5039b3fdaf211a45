"""How far a variant agrees with float32: of embeddings their cosine, of detections their boxes."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from deployments.runtime.models import Measure
from deployments.runtime.types import Box, DetectedFaces

LEAST_MEAN_COSINE = 0.99
LEAST_COSINE = 0.97
"""Portraits of one person have cosines of 0.74 to 0.93, of two persons about 0: a vector that is
turned by as much as this stays on its side of any threshold between them."""
LEAST_DETECTION = 0.98
"""Of recall, precision and box IoU: one face of fifty may be lost or invented."""

SAME_FACE_IOU = 0.5
"""From which two boxes are of one face, as in the usual benchmarks of detectors."""


def cosine_agreement(
    expected: NDArray[np.float32], found: NDArray[np.float32]
) -> tuple[Measure, ...]:
    """Compare embeddings row by row.

    Args:
        expected: (N, D), N at least 1, those of float32.
        found: (N, D), those of the variant.

    Returns:
        The mean and the worst cosine. A vector of zeros, or one with a number that is not finite,
        agrees with nothing: its cosine is 0.

    """
    lengths = np.linalg.norm(expected, axis=1) * np.linalg.norm(found, axis=1)
    products = (expected * found).sum(axis=1)
    usable = np.isfinite(lengths) & np.isfinite(products) & (lengths > 0)
    cosines = np.divide(products, lengths, out=np.zeros_like(products), where=usable)
    return (
        Measure(name="mean cosine", value=float(cosines.mean()), least=LEAST_MEAN_COSINE),
        Measure(name="worst cosine", value=float(cosines.min()), least=LEAST_COSINE),
    )


def detection_agreement(
    expected: Sequence[DetectedFaces], found: Sequence[DetectedFaces]
) -> tuple[Measure, ...]:
    """Compare detections photo by photo.

    Args:
        expected: one of float32 per photo, with at least one face in all of them together.
        found: those of the variant, of the same photos.

    Returns:
        Recall (the share of float32's faces that the variant finds), precision (the share of the
        variant's faces that float32 finds), and the mean IoU of the boxes of one face.

    """
    ious: list[float] = []
    wanted = got = 0
    for before, after in zip(expected, found, strict=True):
        ious += _matched([face.box for face in before.faces], [face.box for face in after.faces])
        wanted += len(before.faces)
        got += len(after.faces)
    values = {
        "recall": len(ious) / wanted,
        "precision": len(ious) / max(1, got),
        "box IoU": float(np.mean(ious)) if ious else 0.0,
    }
    return tuple(
        Measure(name=name, value=value, least=LEAST_DETECTION) for name, value in values.items()
    )


def _matched(first: Sequence[Box], second: Sequence[Box]) -> list[float]:
    """Pair boxes of one face, the best pairs first, and return the IoU of each pair."""
    pairs = sorted(
        ((_iou(a, b), i, j) for i, a in enumerate(first) for j, b in enumerate(second)),
        reverse=True,
    )
    taken_first: set[int] = set()
    taken_second: set[int] = set()
    ious: list[float] = []
    for iou, i, j in pairs:
        if iou >= SAME_FACE_IOU and i not in taken_first and j not in taken_second:
            taken_first.add(i)
            taken_second.add(j)
            ious.append(iou)
    return ious


def _iou(first: Box, second: Box) -> float:
    """Intersection over union of two boxes, 0 where they do not touch."""
    width = min(first.x2, second.x2) - max(first.x1, second.x1)
    height = min(first.y2, second.y2) - max(first.y1, second.y1)
    both = max(0.0, width) * max(0.0, height)
    together = first.width * first.height + second.width * second.height - both
    return both / together if together > 0 else 0.0
