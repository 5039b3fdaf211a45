"""Parameters of the CLIP embedding; its result, ``ImageEmbedding``, is in the runtime."""

from pydantic import Field

from deployments.runtime.capability import Params


class ClipEmbeddingParams(Params):
    """What one request may ask for."""

    normalize: bool = Field(
        default=True,
        description="Scale the embedding to length 1, so that dot products are cosines.",
    )
