"""Decoding of BlazeFace's outputs into boxes and landmarks.

Anchor layout, landmark order and score clipping are MediaPipe's, written anew from the options
in its ``face_detection_full_range.pbtxt`` and ``face_detection_short_range.pbtxt`` and the
calculators they configure (``ssd_anchors_calculator``, ``tensors_to_detections_calculator``),
Apache-2.0.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

LANDMARKS = (
    "right_eye",
    "left_eye",
    "nose_tip",
    "mouth_center",
    "right_ear_tragion",
    "left_ear_tragion",
)
"""In the order of the model's outputs. Right and left are the person's own."""

_SCORE_CLIP = 80.0
"""Logits are clipped to this on both sides. MediaPipe's ``score_clipping_thresh`` is 100, of which
exp() would overflow float32; the score is 0 or 1 to the last digit either way."""

_MAX_CANDIDATES = 256
"""The most anchors of one view that are looked at, best first. A face has three to eight above a
useful threshold; a threshold near 0 must not make suppression quadratic in 2304 anchors."""


@dataclass(frozen=True)
class Blazeface:
    """The geometry of one variant of the model.

    Attributes:
        input_px: side of the square input.
        layers: (stride in input pixels, anchors per cell) of each output layer, in order.

    """

    input_px: int
    layers: tuple[tuple[int, int], ...]

    @cached_property
    def anchors(self) -> NDArray[np.float32]:
        """Centres of the anchors, (A, 2) as x, y in input pixels; rows first, then columns."""
        parts: list[NDArray[np.float32]] = []
        for stride, per_cell in self.layers:
            line = (np.arange(-(-self.input_px // stride), dtype=np.float32) + 0.5) * stride
            x, y = np.meshgrid(line, line)
            parts.append(np.repeat(np.stack([x.ravel(), y.ravel()], axis=1), per_cell, axis=0))
        return np.concatenate(parts)


VARIANTS = {
    # 48 x 48 cells.
    "blazeface_full_range": Blazeface(192, ((4, 1),)),
    # 16 x 16 cells with two anchors, then three layers of 8 x 8 with two each, which come as one.
    "blazeface_short_range": Blazeface(128, ((8, 2), (16, 6))),
}
"""By the name of the model in the catalogue."""


@dataclass(frozen=True, slots=True)
class Detections:
    """Candidates of any number of views.

    Attributes:
        boxes: (N, 4) as x1, y1, x2, y2, float32.
        landmarks: (N, 6, 2) as x, y in the order of ``LANDMARKS``, float32, in the boxes' frame.
        scores: (N,), float32, 0 to 1.

    """

    boxes: NDArray[np.float32]
    landmarks: NDArray[np.float32]
    scores: NDArray[np.float32]

    def __len__(self) -> int:
        """Count the candidates."""
        return len(self.scores)

    def take(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> "Detections":
        """Return the given rows, by index or by mask."""
        return Detections(self.boxes[rows], self.landmarks[rows], self.scores[rows])

    @classmethod
    def concatenate(cls, parts: "list[Detections]") -> "Detections":
        """Put detections of the same frame one after another; none at all gives none."""
        if not parts:
            return cls(
                np.empty((0, 4), np.float32),
                np.empty((0, len(LANDMARKS), 2), np.float32),
                np.empty(0, np.float32),
            )
        return cls(
            np.concatenate([part.boxes for part in parts]),
            np.concatenate([part.landmarks for part in parts]),
            np.concatenate([part.scores for part in parts]),
        )


def decode(
    regressors: NDArray[np.float32],
    logits: NDArray[np.float32],
    anchors: NDArray[np.float32],
    threshold: float,
) -> Detections:
    """Turn the model's outputs for one view into candidates.

    Only anchors above the threshold are decoded, and the threshold is applied to the logits, so
    that a picture without a face costs one comparison per anchor.

    Args:
        regressors: (A, 16): centre x, y, width, height, six points x, y; in input pixels, the
            positions relative to the anchor's centre.
        logits: (A,).
        anchors: (A, 2), centres in input pixels.
        threshold: lowest score to keep, 0 to 1.

    Returns:
        Candidates in input pixels, best first, at most 256.

    """
    logits = np.clip(logits, -_SCORE_CLIP, _SCORE_CLIP)
    rows = np.flatnonzero(logits >= _logit(threshold))
    rows = rows[np.argsort(-logits[rows], kind="stable")[:_MAX_CANDIDATES]]
    chosen = regressors[rows].reshape(len(rows), 2 + len(LANDMARKS), 2)
    centres = chosen[:, 0] + anchors[rows]
    halves = chosen[:, 1] * np.float32(0.5)
    return Detections(
        np.concatenate([centres - halves, centres + halves], axis=1, dtype=np.float32),
        chosen[:, 2:] + anchors[rows, None],
        np.reciprocal(1 + np.exp(-logits[rows]), dtype=np.float32),
    )


def _logit(score: float) -> float:
    if score <= 0:
        return -np.inf
    if score >= 1:
        return np.inf
    return float(np.log(score / (1 - score)))
