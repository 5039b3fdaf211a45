"""The CLIP embedding capability: one unit per picture.

The picture is prepared as MobileCLIP does it (``create_model_and_transforms`` in
``mobileclip/__init__.py`` of apple/ml-mobileclip, and ``preprocessor_config.json`` of
Xenova/mobileclip_s0 says the same): the shorter side resized to 256 with a bilinear filter, the
central square cut out, 0..255 to 0..1 and no mean or deviation.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deployments.clip_embedding.schema import ClipEmbeddingParams
from deployments.runtime.capability import Capability, Work
from deployments.runtime.embeddings import (
    ImageEmbedding,
    ImageEncoder,
    centre_crop,
    unit_length,
)
from deployments.runtime.picture import Picture
from deployments.runtime.random_media import ImageGenerator

SIDE_PX = 256
RESAMPLE = Image.Resampling.BILINEAR


class ClipEmbedding(Capability[ClipEmbeddingParams, ImageEmbedding]):
    """Turns pictures into vectors of what they show."""

    name = "clip_embedding"
    summary = "One vector per picture, comparable with those of texts (MobileCLIP)."
    inputs = (Picture,)
    params = ClipEmbeddingParams
    result = ImageEmbedding
    default_model = "mobileclip_s0_image"
    own_threads = 2
    """One runs the model while the other decodes the next picture."""

    def load(self) -> None:
        """Load the model and warm up.

        Raises:
            ModelError: the model can't be used.
            ConfigError: the catalogue does not describe it as a model of 256 x 256 pictures.

        """
        self._encoder = ImageEncoder(
            self.settings, node=self.name, model=self.model_name or "", side_px=SIDE_PX
        )

    def prepare(self, inputs: tuple[Picture], params: ClipEmbeddingParams) -> Work:
        """Cut the crop: the unit is (256, 256, 3), uint8 RGB."""
        (picture,) = inputs
        return Work([centre_crop(picture, SIDE_PX, SIDE_PX, RESAMPLE)], params)

    def infer(self, units: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.float32]]:
        """Embed crops of any mix of requests: (D,) float32 per crop, as the model gives it."""
        return self._encoder.embed(units)

    def finish(self, work: Work, parts: Sequence[NDArray[np.float32]]) -> ImageEmbedding:
        """Wrap the embedding, scaled to length 1 if wanted."""
        (embedding,) = parts
        return ImageEmbedding(
            embedding=unit_length(embedding) if work.state.normalize else embedding,
            embedding_dim=self._encoder.embedding_dim,
            model=self.model_name or "",
            space=self._encoder.space,
            normalized=work.state.normalize,
        )

    def sample(self) -> tuple[Picture]:
        """Return a small made-up photo."""
        return (Picture(ImageGenerator(size=(320, 240)).media()),)
