"""CLIP embedding of texts: vectors near to those of the pictures that a text describes."""

from deployments.clip_text_embedding.capability import ClipTextEmbedding
from deployments.clip_text_embedding.schema import ClipTextEmbeddingParams
from deployments.runtime.embeddings import TextEmbedding, TextEmbeddings

__all__ = ["ClipTextEmbedding", "ClipTextEmbeddingParams", "TextEmbedding", "TextEmbeddings"]
