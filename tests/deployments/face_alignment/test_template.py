"""From landmarks or a box to the crop's transform."""

import numpy as np
import pytest

from deployments.face_alignment.algo.template import CROP_PX, face_to_crop
from deployments.runtime.types import Box, Point

SIZE = (640.0, 480.0)
NO_BOX = Box(0, 0, 0, 0)
FIVE: dict[str, Point] = {
    "right_eye": (38.2946, 51.6963),
    "left_eye": (73.5318, 51.5014),
    "nose_tip": (56.0252, 71.7366),
    "mouth_right": (41.5493, 92.3655),
    "mouth_left": (70.7299, 92.2041),
}
FOUR: dict[str, Point] = {name: FIVE[name] for name in ("right_eye", "left_eye", "nose_tip")} | {
    "mouth_center": (56.1396, 92.2848)
}


def in_picture(points: dict[str, Point], scale: float) -> dict[str, Point]:
    """Place the template's points in the picture, half a pixel from OpenCV's origin."""
    return {
        name: (((x + 0.5) * scale + 100) / SIZE[0], ((y + 0.5) * scale + 50) / SIZE[1])
        for name, (x, y) in points.items()
    }


@pytest.mark.parametrize("points", [FIVE, FOUR])
def test_template_points(points: dict[str, Point]) -> None:
    """Landmarks that have the template's shape are met exactly, with five points and with four."""
    transform = face_to_crop(in_picture(points, 2.0), NO_BOX, SIZE)
    assert transform is not None
    assert transform.a == pytest.approx(0.5)
    assert transform.b == pytest.approx(0, abs=1e-6)
    assert transform.apply(np.array([(100, 50)]))[0] == pytest.approx((0, 0), abs=1e-3)


def test_other_landmarks_do_not_count() -> None:
    """Names that the template lacks, such as ears, change nothing."""
    landmarks = in_picture(FOUR, 2.0)
    ears: dict[str, Point] = {"right_ear_tragion": (0.9, 0.9), "left_ear_tragion": (0.1, 0.3)}
    assert face_to_crop(landmarks | ears, NO_BOX, SIZE) == face_to_crop(landmarks, NO_BOX, SIZE)


@pytest.mark.parametrize(
    "landmarks",
    [
        {},
        {"nose_tip": (0.5, 0.5)},
        {"right_eye": (0.5, 0.5), "left_eye": (0.5, 0.5)},
        {"right_ear_tragion": (0.2, 0.3), "left_ear_tragion": (0.4, 0.3)},
    ],
)
def test_box_without_landmarks(landmarks: dict[str, Point]) -> None:
    """Without usable landmarks a square around the box becomes the crop, upright."""
    transform = face_to_crop(landmarks, Box(0.25, 0.25, 0.5, 0.75), SIZE)
    assert transform is not None
    assert transform.b == 0
    # The box is 160 x 240 pixels around (240, 240): a square of 240.
    corners = transform.apply(np.array([(120, 120), (360, 360)]))
    assert corners.ravel() == pytest.approx((0, 0, CROP_PX, CROP_PX))


def test_nothing_to_go_by() -> None:
    """A face without landmarks and without an area has no transform."""
    assert face_to_crop({}, NO_BOX, SIZE) is None
