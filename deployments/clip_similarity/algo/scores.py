"""Cosines of embeddings, and what CLIP makes probabilities of them with."""

import numpy as np
from numpy.typing import NDArray

LOGIT_SCALE = 100.0
"""What cosines are multiplied by before the softmax: MobileCLIP's, which is CLIP's upper bound
(``(100.0 * image_features @ text_features.T).softmax(dim=-1)`` in the README of
apple/ml-mobileclip; ``_exponentiate_and_clip_logits`` in its ``mobileclip/clip.py``)."""


def cosines(image: NDArray[np.float32], texts: NDArray[np.float32]) -> NDArray[np.float64]:
    """Compare one embedding (D,) with others (N, D), each of any length.

    Returns:
        (N,), float64, -1 to 1; 0 for embeddings of length 0.

    """
    wide_image, wide_texts = image.astype(np.float64), texts.astype(np.float64)
    lengths = np.linalg.norm(wide_image) * np.linalg.norm(wide_texts, axis=1)
    products = wide_texts @ wide_image
    cosine = np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0)
    return np.clip(cosine, -1.0, 1.0)


def probabilities(cosine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share 1 out among texts by their cosines (N,): the softmax of 100 times the cosine."""
    weights = np.exp(LOGIT_SCALE * (cosine - cosine.max(initial=-1.0)))
    return weights / weights.sum()
