"""The few colours that a picture mostly consists of: weighted k-means in Oklab.

Pixels of nearly the same colour are counted first, so that k-means sees some thousand weighted
colours and not every pixel. Nothing is random: the same pixels give the same colours.
"""

import numpy as np
from numpy.typing import NDArray

from cl_ml_serve_dominant_colours.algo.oklab import to_oklab, to_srgb

CELL_BITS = 5
"""Colours that agree in the upper 5 of 8 bits of red, green and blue are counted together: 32,768
cells, of which eight photographs fill 30 (a grey one) to 6,500."""

MAX_ROUNDS = 50
"""Eight photographs settle within 2 to 33 rounds; what does not is good enough by then."""


def palette(pixels: NDArray[np.uint8], limit: int) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Find the colours of some pixels.

    Args:
        pixels: (N, 3), uint8 sRGB, in any order.
        limit: the most colours to find, at least 1.

    Returns:
        Colours (K, 3), uint8 sRGB, and their shares (K,), which add up to 1; largest share first,
        K at most ``limit``, and less when the pixels have fewer colours. Without a pixel K is 0.

    """
    if not len(pixels):
        return np.empty((0, 3), np.uint8), np.empty(0)
    points, counts = _count(pixels)
    centres = _first_centres(points, counts, limit)
    nearest = _nearest(points, centres)
    for _ in range(MAX_ROUNDS):
        centres = _means(points, counts, nearest, len(centres))
        before, nearest = nearest, _nearest(points, centres)
        if np.array_equal(before, nearest):
            break
    shares = np.bincount(nearest, counts, minlength=len(centres)) / len(pixels)
    order = np.argsort(-shares, kind="stable")
    order = order[shares[order] > 0]
    return to_srgb(centres[order]), shares[order]


def _count(pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Count pixels by cell: mean colours (M, 3) in Oklab, and the pixels of each cell (M,)."""
    cells = (pixels >> (8 - CELL_BITS)).astype(np.intp)
    index = (cells[:, 0] << 2 * CELL_BITS) | (cells[:, 1] << CELL_BITS) | cells[:, 2]
    _, cell_of, counts = np.unique(index, return_inverse=True, return_counts=True)
    weights = counts.astype(np.float64)
    return _means(to_oklab(pixels), np.ones(len(pixels)), cell_of, len(counts)), weights


def _first_centres(
    points: NDArray[np.float64], counts: NDArray[np.float64], limit: int
) -> NDArray[np.float64]:
    """Choose where k-means begins: the most frequent colour, then what is frequent and far away."""
    chosen = [int(np.argmax(counts))]
    distance = _squared_distance(points, points[chosen[0]])
    while len(chosen) < limit and distance.any():
        chosen.append(int(np.argmax(counts * distance)))
        distance = np.minimum(distance, _squared_distance(points, points[chosen[-1]]))
    return points[chosen]


def _nearest(points: NDArray[np.float64], centres: NDArray[np.float64]) -> NDArray[np.intp]:
    """Index of the nearest centre of each point (M,); the first one of equals."""
    return np.argmin([_squared_distance(points, centre) for centre in centres], axis=0)


def _means(
    points: NDArray[np.float64],
    weights: NDArray[np.float64],
    group_of: NDArray[np.intp],
    group_count: int,
) -> NDArray[np.float64]:
    """Weighted mean (G, 3) of the points of each group; 0 for a group without points."""
    sums = [np.bincount(group_of, weights * axis, minlength=group_count) for axis in points.T]
    totals = np.bincount(group_of, weights, minlength=group_count)
    return np.transpose(sums) / np.maximum(totals, 1.0)[:, None]


def _squared_distance(
    points: NDArray[np.float64], centre: NDArray[np.float64]
) -> NDArray[np.float64]:
    return ((points - centre) ** 2).sum(axis=1)
