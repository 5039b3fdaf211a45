"""DINOv2 embedding: one vector per picture, near to those of pictures that look alike."""

from deployments.dino_embedding.capability import DinoEmbedding
from deployments.dino_embedding.schema import DinoEmbeddingParams, DinoEmbeddingResult

__all__ = ["DinoEmbedding", "DinoEmbeddingParams", "DinoEmbeddingResult"]
