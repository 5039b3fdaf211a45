"""The search: which views of a picture to look at, and one list of faces from what they show."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from deployments.face_detection.algo.blazeface import LANDMARKS, Blazeface, Detections, decode
from deployments.face_detection.algo.suppression import blend, merge
from deployments.face_detection.algo.views import View, bordered, tiles
from deployments.runtime.types import Box, Face

BORDER_SHARE = 0.5
"""Measured on 420 frames cut around faces that take 0.4 to 1.25 of the frame, half of them at its
edge with up to a fifth cut off: without a border 47 % are found, with 0.1 77 %, with 0.25 95 %,
with 0.5 and 0.75 all."""

BORDERED_MIN_FACE_SHARE = 0.25
"""The border halves a face in the detector's eyes, and what it then takes for small faces was
wrong more often than in any other view; the letterboxed view has found all faces of this size."""

LARGE_TILES = 6
SMALL_TILES = 16
"""Of ``thorough``, with a letterboxed and a bordered view before them: 24 runs of the model at
most. The README has the recall by size of face. Four large tiles would lose a third of the faces
of 4 % of the long side; twenty small ones would find a fifth more of those of 2.5 %, for four runs
more."""

_MIN_TILE_SHARE_OF_INPUT = 0.5
"""Tiles are not enlarged more than twice: there is nothing more to see in them."""

TILE_LOGIT_PENALTY = 0.25
"""Subtracted from the logits of tiles. Many more places are looked at, so one of them resembles a
face by chance more often: in 26 photos without a face, views of the whole picture reached a
confidence of 0.46 and tiles 0.61. This makes 0.66 in a tile what 0.6 is in the whole picture."""


def plan(
    size: tuple[int, int],
    input_px: int,
    effort: Literal["fast", "standard", "thorough"],
) -> list[View]:
    """Choose the views of a picture.

    Args:
        size: (width, height) of the picture in pixels.
        input_px: side of the detector's input.
        effort: ``fast`` is one letterboxed view, ``standard`` adds one with a border,
            ``thorough`` adds large and small tiles.

    """
    views = [bordered(size, input_px)]
    if effort == "fast":
        return views
    min_side_px = round(input_px * _MIN_TILE_SHARE_OF_INPUT)
    views.append(bordered(size, input_px, BORDER_SHARE, BORDERED_MIN_FACE_SHARE))
    if effort == "thorough":
        views += tiles(size, input_px, LARGE_TILES, min_side_px)
        # A picture too small for small tiles would get the large ones again.
        views += [v for v in tiles(size, input_px, SMALL_TILES, min_side_px) if v not in views]
    return views


def plan_cropped(size: tuple[int, int], input_px: int) -> list[View]:
    """Choose the views of a picture that is a crop of one face, loose or tight."""
    return [bordered(size, input_px), bordered(size, input_px, BORDER_SHARE)]


def find(  # noqa: PLR0913 - a picture, its views and two thresholds
    views: list[View],
    regressors: list[NDArray[np.float32]],
    logits: list[NDArray[np.float32]],
    *,
    size: tuple[int, int],
    variant: Blazeface,
    confidence_threshold: float,
    nms_threshold: float,
) -> Detections:
    """Make one list of faces from the model's outputs for all views of a picture.

    Args:
        views: the views.
        regressors: (A, 16) for each view.
        logits: (A,) for each view.
        size: (width, height) of the picture in pixels.
        variant: the model's geometry.
        confidence_threshold: lowest confidence, 0 to 1.
        nms_threshold: highest intersection over union of two faces.

    Returns:
        Faces in the picture's pixels, whose centre is inside the picture, most confident first.

    """
    parts: list[Detections] = []
    cuts: list[NDArray[np.bool_]] = []
    for view, regressor, logit in zip(views, regressors, logits, strict=True):
        lowered = logit - TILE_LOGIT_PENALTY if view.is_tile else logit
        seen = blend(
            decode(regressor, lowered, variant.anchors, confidence_threshold), nms_threshold
        )
        seen = seen.take(np.max(seen.boxes[:, 2:] - seen.boxes[:, :2], axis=1) >= view.min_box_px)
        cuts.append(_is_cut(seen.boxes, view, variant.input_px))
        parts.append(_to_pixels(seen, view, size))
    merged = merge(Detections.concatenate(parts), np.concatenate(cuts), nms_threshold)
    centres = (merged.boxes[:, :2] + merged.boxes[:, 2:]) / 2
    merged = merged.take(np.all((centres >= 0) & (centres <= np.array(size)), axis=1))
    return merged.take(np.argsort(-merged.scores, kind="stable"))


def larger_than(found: Detections, min_size_px: float) -> Detections:
    """Keep the faces whose box's longer side has at least so many pixels."""
    return found.take(np.max(found.boxes[:, 2:] - found.boxes[:, :2], axis=1) >= min_size_px)


def to_faces(found: Detections, size: tuple[int, int]) -> tuple[Face, ...]:
    """Turn detections in the picture's pixels into faces in normalised coordinates.

    Args:
        found: the detections.
        size: (width, height) of the picture in pixels.

    """
    boxes = found.boxes / np.array(size * 2, np.float32)
    landmarks = found.landmarks / np.array(size, np.float32)
    return tuple(
        Face(
            box=Box(*box),
            confidence=score,
            landmarks={name: (x, y) for name, (x, y) in zip(LANDMARKS, points, strict=True)},
        )
        for box, score, points in zip(
            boxes.tolist(), found.scores.tolist(), landmarks.tolist(), strict=True
        )
    )


def _is_cut(boxes: NDArray[np.float32], view: View, input_px: int) -> NDArray[np.bool_]:
    """Tell which boxes (N, 4), in input pixels, reach past a side that cuts the picture."""
    past = np.concatenate([boxes[:, :2] < 0, boxes[:, 2:] > input_px], axis=1)
    return np.any(past & np.array(view.inner), axis=1)


def _to_pixels(found: Detections, view: View, size: tuple[int, int]) -> Detections:
    pixels = np.array(size, np.float32)
    corners = view.to_picture(found.boxes.reshape(-1, 2, 2)) * pixels
    return Detections(
        corners.reshape(-1, 4),
        view.to_picture(found.landmarks) * pixels,
        found.scores,
    )
