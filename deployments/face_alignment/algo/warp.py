"""Cuts a face out of a picture along a similarity transform, without gross aliasing.

Pillow's affine transform reads the four pixels around a point, which skips pixels where a large
face becomes a small crop. So a region around the face is first reduced by a whole factor with a
box filter, which leaves one to two picture pixels per crop pixel. Averaging those as well changed
embeddings by less than a face's next photo does, and did not separate persons better.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deployments.face_alignment.algo.similarity import Similarity
from deployments.face_alignment.algo.template import CROP_PX

_MARGIN_PX = 2
"""Kept around the reduced region, so that interpolation at its rim has neighbours."""


def warp(picture: Image.Image, transform: Similarity) -> NDArray[np.uint8]:
    """Cut one face out.

    Args:
        picture: RGB.
        transform: from the picture's pixels to the crop's, (0, 0) being a corner of the first one.

    Returns:
        (112, 112, 3), uint8 RGB; black where the crop reaches past the picture.

    """
    back = transform.inverse
    corners = back.apply(np.array([(0, 0), (CROP_PX, 0), (0, CROP_PX), (CROP_PX, CROP_PX)]))
    # A box far outside the picture may ask for any factor; Pillow reduces by a picture at most.
    factor = max(1, int(min(back.scale, *picture.size)))
    margin = _MARGIN_PX * factor
    low = np.clip(np.floor(corners.min(axis=0)) - margin, 0, picture.size)
    high = np.clip(np.ceil(corners.max(axis=0)) + margin, 0, picture.size)
    if np.any(low >= high):
        return np.zeros((CROP_PX, CROP_PX, 3), np.uint8)
    left, top, right, bottom = (int(value) for value in (*low, *high))
    region = picture.reduce(factor, (left, top, right, bottom))
    crop = region.transform(
        (CROP_PX, CROP_PX),
        Image.Transform.AFFINE,
        (
            back.a / factor,
            -back.b / factor,
            (back.tx - left) / factor,
            back.b / factor,
            back.a / factor,
            (back.ty - top) / factor,
        ),
        Image.Resampling.BILINEAR,
    )
    return np.asarray(crop)
