"""The search across views, on outputs made by hand."""

import numpy as np
import pytest
from numpy.typing import NDArray

from deployments.face_detection.algo.blazeface import VARIANTS
from deployments.face_detection.algo.search import (
    TILE_LOGIT_PENALTY,
    find,
    larger_than,
    plan,
    to_faces,
)

VARIANT = VARIANTS["blazeface_full_range"]
SIZE = (1600, 1200)
VIEWS = plan(SIZE, 192, "thorough")
Outputs = tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]]


def silent(views: int) -> Outputs:
    """Outputs of a model that sees nothing."""
    count = len(VARIANT.anchors)
    return (
        [np.zeros((count, 16), np.float32) for _ in range(views)],
        [np.full(count, -9, np.float32) for _ in range(views)],
    )


def show(outputs: Outputs, view: int, box: tuple[float, ...], logit: float) -> None:
    """Let the model see a face at (x, y, width, height) of a view, in input pixels."""
    regressors, logits = outputs
    regressors[view][0] = 0
    regressors[view][0, :4] = (*(np.array(box[:2]) - VARIANT.anchors[0]), *box[2:])
    logits[view][0] = logit


def search(outputs: Outputs, confidence_threshold: float = 0.6) -> list[list[int]]:
    """Find faces and return their boxes in whole pixels of the picture."""
    found = find(
        VIEWS,
        *outputs,
        size=SIZE,
        variant=VARIANT,
        confidence_threshold=confidence_threshold,
        nms_threshold=0.3,
    )
    return np.rint(found.boxes).astype(int).tolist()


def test_nothing() -> None:
    """A model that sees nothing gives no face, and so do no faces."""
    assert search(silent(len(VIEWS))) == []
    found = find(
        VIEWS,
        *silent(len(VIEWS)),
        size=SIZE,
        variant=VARIANT,
        confidence_threshold=0.6,
        nms_threshold=0.3,
    )
    assert to_faces(found, SIZE) == ()
    assert len(larger_than(found, 0)) == 0


def test_letterbox_to_pixels() -> None:
    """A box in the letterboxed view comes out in the picture's pixels."""
    outputs = silent(len(VIEWS))
    show(outputs, 0, (96, 96, 24, 24), 3)
    assert search(outputs) == [[700, 500, 900, 700]]


def test_border_is_for_large_faces() -> None:
    """The bordered view counts for faces of a quarter of the long side, and not for smaller."""
    outputs = silent(len(VIEWS))
    show(outputs, 1, (96, 96, 23, 23), 3)
    assert search(outputs) == []
    show(outputs, 1, (96, 96, 48, 48), 3)
    assert search(outputs) == [[400, 200, 1200, 1000]]


def test_no_face_beside_the_picture() -> None:
    """A face whose centre is in the border is not a face of the picture."""
    outputs = silent(len(VIEWS))
    show(outputs, 1, (20, 96, 60, 60), 3)
    assert search(outputs) == []


def test_cut_face_loses() -> None:
    """A tile's part of a face is dropped for the whole face, however confident the tile is."""
    outputs = silent(len(VIEWS))
    show(outputs, 2, (180, 100, 60, 60), 9)
    (part,) = search(outputs)
    tile_right_px = VIEWS[2].source[2] * SIZE[0]
    assert part[0] < tile_right_px < part[2]
    # The same place in the letterboxed view, a little larger.
    whole = (part[0] - 20, part[1] - 20, part[2] + 20, part[3] + 20)
    centre = ((whole[0] + whole[2]) / 2 * 0.12, (whole[1] + whole[3]) / 2 * 0.12 + 24)
    side = (whole[2] - whole[0]) * 0.12
    show(outputs, 0, (*centre, side, side), 1)
    assert search(outputs) == [list(whole)]


def test_tiles_need_more_confidence() -> None:
    """What is just enough in the whole picture is not in a tile."""
    logit = float(np.log(0.6 / 0.4)) + TILE_LOGIT_PENALTY
    outputs = silent(len(VIEWS))
    show(outputs, 3, (96, 96, 30, 30), logit - 0.01)
    assert search(outputs) == []
    show(outputs, 3, (96, 96, 30, 30), logit + 0.01)
    assert len(search(outputs)) == 1


def test_to_faces() -> None:
    """Faces are normalised by the picture's size and name their landmarks."""
    outputs = silent(1)
    show(outputs, 0, (96, 96, 24, 24), 3)
    found = find(
        plan(SIZE, 192, "fast"),
        *outputs,
        size=SIZE,
        variant=VARIANT,
        confidence_threshold=0.5,
        nms_threshold=0.3,
    )
    (face,) = to_faces(found, SIZE)
    assert (face.box.x1, face.box.y1) == pytest.approx((0.4375, 0.41667), abs=1e-4)
    assert (face.box.x2, face.box.y2) == pytest.approx((0.5625, 0.58333), abs=1e-4)
    assert face.confidence == pytest.approx(0.95257, abs=1e-4)
    assert list(face.landmarks)[:2] == ["right_eye", "left_eye"]
    assert len(larger_than(found, 199)) == 1
    assert len(larger_than(found, 201)) == 0
