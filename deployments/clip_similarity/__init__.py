"""CLIP similarity: how well each of some texts describes a picture."""

from deployments.clip_similarity.capability import ClipSimilarity
from deployments.clip_similarity.schema import (
    ClipSimilarityParams,
    ClipSimilarityResult,
    TextScore,
)

__all__ = ["ClipSimilarity", "ClipSimilarityParams", "ClipSimilarityResult", "TextScore"]
