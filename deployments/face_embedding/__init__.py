"""Face embedding: one vector per face, near to those of the same person's other faces."""

from deployments.face_embedding.capability import FaceEmbedding
from deployments.face_embedding.schema import (
    EmbeddedFace,
    FaceEmbeddingParams,
    FaceEmbeddings,
    FaceQuality,
)

__all__ = ["EmbeddedFace", "FaceEmbedding", "FaceEmbeddingParams", "FaceEmbeddings", "FaceQuality"]
