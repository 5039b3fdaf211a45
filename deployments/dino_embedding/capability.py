"""The DINOv2 embedding capability: one unit per picture.

The picture is prepared as DINOv2's evaluation does it (``make_classification_eval_transform`` in
``dinov2/data/transforms.py`` of facebookresearch/dinov2, Apache-2.0): the shorter side resized to
256 with a bicubic filter, the central 224 x 224 cut out, ImageNet's mean and deviation. The last
two numbers are in the model's catalogue entry.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deployments.dino_embedding.schema import DinoEmbeddingParams, DinoEmbeddingResult
from deployments.runtime.capability import Capability, Work
from deployments.runtime.embeddings import ImageEncoder, centre_crop, unit_length
from deployments.runtime.picture import Picture
from deployments.runtime.random_media import ImageGenerator

RESIZE_PX = 256
CROP_PX = 224
RESAMPLE = Image.Resampling.BICUBIC


class DinoEmbedding(Capability[DinoEmbeddingParams, DinoEmbeddingResult]):
    """Turns pictures into vectors of what they look like."""

    name = "dino_embedding"
    summary = "One vector per picture, for finding pictures that look alike (DINOv2)."
    inputs = (Picture,)
    params = DinoEmbeddingParams
    result = DinoEmbeddingResult
    default_model = "dinov2_vits14"
    own_threads = 2
    """One runs the model while the other decodes the next picture."""

    def load(self) -> None:
        """Load the model and warm up.

        Raises:
            ModelError: the model can't be used.
            ConfigError: the catalogue does not describe it as a model of 224 x 224 pictures.

        """
        self._encoder = ImageEncoder(
            self.settings, node=self.name, model=self.model_name or "", side_px=CROP_PX
        )

    def prepare(self, inputs: tuple[Picture], params: DinoEmbeddingParams) -> Work:
        """Cut the crop: the unit is (224, 224, 3), uint8 RGB."""
        (picture,) = inputs
        return Work([centre_crop(picture, RESIZE_PX, CROP_PX, RESAMPLE)], params)

    def infer(self, units: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.float32]]:
        """Embed crops of any mix of requests: (D,) float32 per crop, as the model gives it."""
        return self._encoder.embed(units)

    def finish(self, work: Work, parts: Sequence[NDArray[np.float32]]) -> DinoEmbeddingResult:
        """Wrap the embedding, scaled to length 1 if wanted."""
        (embedding,) = parts
        return DinoEmbeddingResult(
            embedding=unit_length(embedding) if work.state.normalize else embedding,
            embedding_dim=self._encoder.embedding_dim,
            model=self.model_name or "",
            normalized=work.state.normalize,
        )

    def sample(self) -> tuple[Picture]:
        """Return a small made-up photo."""
        return (Picture(ImageGenerator(size=(320, 240)).media()),)
