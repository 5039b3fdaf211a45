"""CLIP embedding of pictures: one vector, near to those of texts that describe the picture."""

from deployments.clip_embedding.capability import ClipEmbedding
from deployments.clip_embedding.schema import ClipEmbeddingParams
from deployments.runtime.embeddings import ImageEmbedding

__all__ = ["ClipEmbedding", "ClipEmbeddingParams", "ImageEmbedding"]
