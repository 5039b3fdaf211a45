"""Where a face's landmarks belong in its crop.

The template is ArcFace's for crops of 112 x 112 (``arcface_dst`` in InsightFace's
``face_align.py``, MIT), which all the embedding models of the catalogue were trained on. Its
coordinates count from the centre of the first pixel, as OpenCV's warp does; half a pixel is added
here, because in this project 0 is the picture's edge.
"""

from collections.abc import Mapping

import numpy as np

from deployments.face_alignment.algo.similarity import Similarity, fit_similarity
from deployments.runtime.types import Box, Point

CROP_PX = 112
"""Width and height of a crop."""

_HALF_PIXEL = 0.5

_TEMPLATE: dict[str, tuple[float, float]] = {
    "right_eye": (38.2946, 51.6963),
    "left_eye": (73.5318, 51.5014),
    "nose_tip": (56.0252, 71.7366),
    "mouth_right": (41.5493, 92.3655),
    "mouth_left": (70.7299, 92.2041),
    # Halfway between the corners, for detectors that give one point for the mouth.
    "mouth_center": (56.1396, 92.2848),
}
"""Left and right are the person's own: the right eye is on the left of the crop."""


def face_to_crop(
    landmarks: Mapping[str, Point],
    box: Box,
    size: tuple[float, float],
) -> Similarity | None:
    """Find the transform from a picture's pixels to a face's crop.

    By landmarks where at least two are known to the template, and otherwise by the box: a square
    around its centre as large as its longer side, upright.

    Args:
        landmarks: name to normalised point; names that the template lacks are ignored.
        box: normalised.
        size: (width, height) of the picture in pixels.

    Returns:
        The transform, in coordinates where (0, 0) is a corner of the first pixel. None for a face
        that has neither usable landmarks nor an area.

    """
    names = [name for name in _TEMPLATE if name in landmarks]
    source = np.array([landmarks[name] for name in names]).reshape(-1, 2) * size
    target = np.array([_TEMPLATE[name] for name in names]).reshape(-1, 2) + _HALF_PIXEL
    return fit_similarity(source, target) or _around(box, size)


def _around(box: Box, size: tuple[float, float]) -> Similarity | None:
    width, height = size
    side = max(box.width * width, box.height * height)
    if not side > 0:
        return None
    scale = CROP_PX / side
    x, y = (box.x1 + box.x2) / 2 * width, (box.y1 + box.y2) / 2 * height
    return Similarity(scale, 0.0, CROP_PX / 2 - scale * x, CROP_PX / 2 - scale * y)
