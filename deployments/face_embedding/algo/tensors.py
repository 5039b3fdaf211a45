"""What goes into an embedding model and what comes out."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def to_input(
    crops: Sequence[NDArray[np.uint8]],
    subtract: NDArray[np.float32],
    divide: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Stack crops to a model's input.

    Args:
        crops: each (S, S, 3), uint8, in the model's order of colours.
        subtract: one number, or one per channel.
        divide: one number, or one per channel.

    Returns:
        (N, 3, S, S), float32, (pixel - subtract) / divide.

    """
    batch = np.stack(crops).transpose(0, 3, 1, 2).astype(np.float32, order="C")
    batch -= subtract.reshape(-1, 1, 1)
    batch /= divide.reshape(-1, 1, 1)
    return batch


def unit_length(embedding: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale an embedding (D,) to length 1; zeros stay zeros."""
    length = np.float32(np.linalg.norm(embedding))
    return np.divide(embedding, length, dtype=np.float32) if length > 0 else embedding
