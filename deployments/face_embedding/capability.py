"""The face embedding capability: one unit per face, so batches fill by faces."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from deployments.face_embedding.algo.quality import score, sharpness
from deployments.face_embedding.schema import (
    EmbeddedFace,
    FaceEmbeddingParams,
    FaceEmbeddings,
    FaceQuality,
)
from deployments.runtime.capability import Capability, Work
from deployments.runtime.embeddings import ImageEncoder, unit_length
from deployments.runtime.types import AlignedFaces, Box, Face

CROP_PX = 112
"""Width and height of the crops that all models of this capability take."""


class FaceEmbedding(Capability[FaceEmbeddingParams, FaceEmbeddings]):
    """Turns aligned faces into vectors and rates them."""

    name = "face_embedding"
    summary = "One vector per face to tell persons apart, and how good the face is."
    inputs = (AlignedFaces,)
    params = FaceEmbeddingParams
    result = FaceEmbeddings
    default_model = "mobilefacenet"

    def load(self) -> None:
        """Load the model and warm up.

        The scaling of the input and the embedding's dimension are the catalogue's: a model that
        takes 112 x 112 crops can be added there without a change here.

        Raises:
            ModelError: the model can't be used.
            ConfigError: the catalogue does not describe it as a model of faces.

        """
        self._encoder = ImageEncoder(
            self.settings, node=self.name, model=self.model_name or "", side_px=CROP_PX
        )

    @property
    def gains_from_batches(self) -> bool:
        """Whether its model does, where it runs."""
        return self._encoder.gains_from_batches

    def prepare(self, inputs: tuple[AlignedFaces], params: FaceEmbeddingParams) -> Work:
        """Rate the faces; units are the crops, (112, 112, 3) uint8 RGB, of those to embed."""
        (aligned,) = inputs
        rated = [
            (row, face, quality)
            for row, face in enumerate(aligned.faces)
            if (quality := _rate(face, aligned, row)).score >= params.min_quality
        ]
        return Work([aligned.crops[row] for row, _, _ in rated], (rated, aligned, params))

    def infer(self, units: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.float32]]:
        """Embed crops of any mix of photos: (D,) float32 per crop, as the model gives it."""
        return self._encoder.embed(units)

    def finish(self, work: Work, parts: Sequence[NDArray[np.float32]]) -> FaceEmbeddings:
        """Put faces, embeddings and quality together."""
        rated, aligned, params = work.state
        return FaceEmbeddings(
            faces=tuple(
                EmbeddedFace(
                    box=face.box,
                    confidence=face.confidence,
                    landmarks=face.landmarks,
                    embedding=unit_length(embedding) if params.normalize else embedding,
                    quality=quality,
                )
                for (_, face, quality), embedding in zip(rated, parts, strict=True)
            ),
            embedding_dim=self._encoder.embedding_dim,
            model=self.model_name or "",
            normalized=params.normalize,
            image_width=aligned.image_width,
            image_height=aligned.image_height,
        )

    def sample(self) -> tuple[AlignedFaces]:
        """Return one made-up crop: a gradient, which is nobody."""
        ramp = np.linspace(0, 255, CROP_PX, dtype=np.uint8)
        crop = np.broadcast_to(ramp[:, None, None], (CROP_PX, CROP_PX, 3))
        face = Face(Box(0.25, 0.25, 0.75, 0.75), 0.9, {})
        return (AlignedFaces((face,), crop[None].copy(), 224, 224),)


def _rate(face: Face, aligned: AlignedFaces, row: int) -> FaceQuality:
    width_px = face.box.width * aligned.image_width
    height_px = face.box.height * aligned.image_height
    size_px = float(np.sqrt(max(0.0, width_px) * max(0.0, height_px)))
    sharp = sharpness(aligned.crops[row])
    return FaceQuality(score(sharp, size_px, face.confidence), sharp, size_px, face.confidence)
