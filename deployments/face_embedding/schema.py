"""Parameters and result of face embedding."""

from dataclasses import dataclass

from pydantic import Field

from deployments.runtime.capability import Params
from deployments.runtime.types import Box, Embedding, Point


class FaceEmbeddingParams(Params):
    """What one request may ask for."""

    normalize: bool = Field(
        default=True,
        description="Scale embeddings to length 1, so that their dot product is their cosine.",
    )
    min_quality: float = Field(
        default=0.0,
        ge=0.0,
        le=1.0,
        description=(
            "Leave out faces whose quality score is lower. 0 keeps all; 0.2 leaves out what is "
            "too blurred or too small to be recognised."
        ),
    )


@dataclass(frozen=True, slots=True)
class FaceQuality:
    """How far a face's embedding can be trusted.

    ``score`` is the product of ``sharpness``, ``confidence`` and, for a face smaller than 64
    pixels, its share of them; 0 to 1. ``sharpness`` is 0 to 1. ``size_px`` is the
    side of a square of the box's area, in pixels of the original picture. ``confidence`` is the
    detector's.
    """

    score: float
    sharpness: float
    size_px: float
    confidence: float


@dataclass(frozen=True, slots=True)
class EmbeddedFace:
    """One face of a picture with its embedding, (D,) float32."""

    box: Box
    confidence: float
    landmarks: dict[str, Point]
    embedding: Embedding
    quality: FaceQuality


@dataclass(frozen=True, slots=True)
class FaceEmbeddings:
    """The faces of one picture, in the order of detection.

    ``embedding_dim`` is D, ``model`` the catalogue entry that made the embeddings, and
    ``normalized`` tells whether their length is 1. Embeddings of different models can't be
    compared.
    """

    faces: tuple[EmbeddedFace, ...]
    embedding_dim: int
    model: str
    normalized: bool
    image_width: int
    image_height: int
