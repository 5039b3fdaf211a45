"""The face alignment capability: crops of faces for the models that look at one face."""

import numpy as np

from deployments.face_alignment.algo.template import CROP_PX, face_to_crop
from deployments.face_alignment.algo.warp import warp
from deployments.face_alignment.schema import FaceAlignmentParams
from deployments.runtime.capability import Capability, Work
from deployments.runtime.picture import Picture
from deployments.runtime.random_media import ImageGenerator
from deployments.runtime.types import AlignedFaces, Box, DetectedFaces, Face

MAX_LONG_SIDE_PX = 4096
"""The largest scale at which a picture is decoded for the sake of its smallest face. Whole
12-megapixel photos pass; from a larger one, faces of about 100 pixels lose some resolution rather
than costing seconds."""

ENOUGH_RESOLUTION = 0.5
"""A crop may be made of this share of its pixels a side where the original has more, which saves
decoding the picture again at twice the scale. Of ten portraits in JPEGs of 7 and 12 megapixels,
embeddings made so had a cosine of 0.996 to 1 with those of the full scale, and of 0.97 at a share
of 0.4."""


class FaceAlignment(Capability[FaceAlignmentParams, AlignedFaces]):
    """Turns faces upright and scales them to the ArcFace template."""

    name = "face_alignment"
    summary = "Cuts faces out of a photo, upright and 112x112, for embedding models."
    inputs = (Picture, DetectedFaces)
    params = FaceAlignmentParams
    result = AlignedFaces

    def prepare(
        self,
        inputs: tuple[Picture, DetectedFaces],
        params: FaceAlignmentParams,  # noqa: ARG002 - there are none to use
    ) -> Work:
        """Cut out all faces; the state is the result, and there are no units."""
        picture, detected = inputs
        width, height = picture.size
        transforms = [face_to_crop(f.landmarks, f.box, (width, height)) for f in detected.faces]
        crops = np.zeros((len(transforms), CROP_PX, CROP_PX, 3), np.uint8)
        known = [transform for transform in transforms if transform is not None]
        if known:
            # A transform of scale 2 enlarges: the original has half the pixels that a crop has.
            needed_px = max(width, height) * ENOUGH_RESOLUTION * max(t.scale for t in known)
            image = picture.rgb(max(1, min(round(needed_px), MAX_LONG_SIDE_PX)))
            for row, face in enumerate(detected.faces):
                transform = face_to_crop(face.landmarks, face.box, image.size)
                if transform is not None:
                    crops[row] = warp(image, transform)
        return Work((), AlignedFaces(detected.faces, crops, width, height))

    def finish(self, work: Work, parts: object) -> AlignedFaces:  # noqa: ARG002 - there are none
        """Return what ``prepare`` has made."""
        return work.state

    def sample(self) -> tuple[Picture, DetectedFaces]:
        """Return a small made-up photo and the box of a face in it."""
        face = Face(Box(0.25, 0.25, 0.5, 0.6), 0.9, {})
        return (
            Picture(ImageGenerator(size=(320, 240)).media()),
            DetectedFaces((face,), 320, 240),
        )
