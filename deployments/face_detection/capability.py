"""The face detection capability: BlazeFace on one or many views of a picture."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deployments.face_detection.algo.blazeface import VARIANTS, Blazeface
from deployments.face_detection.algo.search import (
    find,
    larger_than,
    plan,
    plan_cropped,
    to_faces,
)
from deployments.face_detection.algo.views import View, needed_long_side_px, render
from deployments.face_detection.schema import FaceDetectionParams
from deployments.runtime.capability import Capability, NodeSettings, Work
from deployments.runtime.errors import ConfigError
from deployments.runtime.models import base_name
from deployments.runtime.picture import Picture
from deployments.runtime.random_media import ImageGenerator
from deployments.runtime.types import Box, DetectedFaces, Face

CROPPED_CONFIDENCE_THRESHOLD = 0.3
"""Highest threshold in a picture that is known to be a face: what resembles one most is it, and a
face that is missed there loses its alignment."""

_INPUT_CENTRE = np.float32(127.5)  # 0..255 becomes -1..1, as both variants take it


@dataclass(frozen=True, slots=True)
class _State:
    params: FaceDetectionParams
    size: tuple[int, int]
    views: list[View]


class FaceDetection(Capability[FaceDetectionParams, DetectedFaces]):
    """Finds faces and six landmarks of each."""

    name = "face_detection"
    summary = "Finds the faces of a photo: boxes, confidence and six landmarks."
    inputs = (Picture,)
    params = FaceDetectionParams
    result = DetectedFaces
    default_model = "blazeface_full_range"

    def __init__(self, settings: NodeSettings) -> None:
        """Keep the settings.

        Raises:
            ConfigError: the model is not one of those that this capability can read.

        """
        super().__init__(settings)
        model = self.model_name or ""
        if base_name(model) not in VARIANTS:
            raise ConfigError(
                f"face_detection: model: expected one of {', '.join(VARIANTS)}, got {model!r}"
            )
        self._variant: Blazeface = VARIANTS[base_name(model)]

    def load(self) -> None:
        """Load the model and warm up. Raises a ``ModelError`` when it can't be used."""
        self._session = self.settings.open_session(self.model_name or "")
        self._session.warm_up()

    @property
    def gains_from_batches(self) -> bool:
        """Whether its model does, where it runs."""
        return self._session.gains_from_batches

    def prepare(self, inputs: tuple[Picture], params: FaceDetectionParams) -> Work:
        """Render the views of the picture: units are (S, S, 3), uint8 RGB."""
        (picture,) = inputs
        input_px = self._variant.input_px
        if params.cropped:
            views = plan_cropped(picture.size, input_px)
        else:
            views = plan(picture.size, input_px, params.effort)
        needed_px = needed_long_side_px(picture.size, views)
        image = picture.rgb(needed_px)
        units = [render(image, view, input_px) for view in views]
        return Work(units, _State(params, picture.size, views))

    def infer(
        self,
        units: Sequence[NDArray[np.uint8]],
    ) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """Run the detector: regressors (A, 16) and logits (A,) per unit."""
        regressors, logits = self._session.run(_to_input(units))
        return list(zip(regressors, logits[..., 0], strict=True))

    def finish(
        self,
        work: Work,
        parts: Sequence[tuple[NDArray[np.float32], NDArray[np.float32]]],
    ) -> DetectedFaces:
        """Decode, merge the views and filter."""
        state: _State = work.state
        params = state.params
        threshold = params.confidence_threshold
        if params.cropped:
            threshold = min(threshold, CROPPED_CONFIDENCE_THRESHOLD)
        found = find(
            state.views,
            [regressors for regressors, _ in parts],
            [logits for _, logits in parts],
            size=state.size,
            variant=self._variant,
            confidence_threshold=threshold,
            nms_threshold=params.nms_threshold,
        )
        if params.cropped:
            faces = to_faces(found.take(np.arange(min(1, len(found)))), state.size)
            faces = faces or (Face(Box(0.0, 0.0, 1.0, 1.0), 0.0, {}),)
        else:
            found = larger_than(found, params.min_face_size)
            faces = to_faces(found.take(np.arange(min(params.limit, len(found)))), state.size)
        return DetectedFaces(faces, *state.size)

    def sample(self) -> tuple[Picture]:
        """Return a small made-up photo, which has no face."""
        return (Picture(ImageGenerator(size=(320, 240)).media()),)


def _to_input(units: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """Stack (S, S, 3) uint8 pictures to (N, 3, S, S) float32 in -1..1."""
    batch = np.stack(units).transpose(0, 3, 1, 2).astype(np.float32, order="C")
    batch -= _INPUT_CENTRE
    batch /= _INPUT_CENTRE
    return batch
