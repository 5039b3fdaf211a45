"""Parameters and result of the DINOv2 embedding."""

from dataclasses import dataclass

from pydantic import Field

from deployments.runtime.capability import Params
from deployments.runtime.types import Embedding


class DinoEmbeddingParams(Params):
    """What one request may ask for."""

    normalize: bool = Field(
        default=True,
        description="Scale the embedding to length 1, so that dot products are cosines.",
    )


@dataclass(frozen=True, slots=True)
class DinoEmbeddingResult:
    """The embedding of one picture, (D,) float32.

    ``embedding_dim`` is D, ``model`` the catalogue entry that made it, and ``normalized`` tells
    whether its length is 1. Embeddings of different models can't be compared.
    """

    embedding: Embedding
    embedding_dim: int
    model: str
    normalized: bool
