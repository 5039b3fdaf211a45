"""The similarity transform that fits one set of points to another best.

Umeyama's least-squares estimate (S. Umeyama, "Least-squares estimation of transformation
parameters between two point patterns", IEEE PAMI 13(4), 1991). In the plane and without reflection
it has a closed form in complex numbers, which needs no singular value decomposition: with both
sets centred and points as x + iy, rotation and scale together are the one complex number that
solves a linear least-squares problem.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_MIN_SPREAD = 1e-6
"""Points closer together than this share of their distance to the origin are one point."""


@dataclass(frozen=True, slots=True)
class Similarity:
    """Rotation, scale and translation of the plane; never a reflection.

    A point (x, y) goes to (a * x - b * y + tx, b * x + a * y + ty).
    """

    a: float
    b: float
    tx: float
    ty: float

    @property
    def scale(self) -> float:
        """Length after the transform of what had length 1."""
        return float(np.hypot(self.a, self.b))

    @property
    def inverse(self) -> "Similarity":
        """The transform back. The scale must not be 0."""
        square = self.a**2 + self.b**2
        a, b = self.a / square, -self.b / square
        return Similarity(a, b, -(a * self.tx - b * self.ty), -(b * self.tx + a * self.ty))

    def apply(self, points: NDArray[np.floating]) -> NDArray[np.float64]:
        """Transform points, (N, 2) as x, y."""
        matrix = np.array([[self.a, -self.b], [self.b, self.a]])
        return points.astype(np.float64) @ matrix.T + np.array([self.tx, self.ty])


def fit_similarity(
    source: NDArray[np.floating],
    target: NDArray[np.floating],
) -> Similarity | None:
    """Find the similarity that takes one set of points nearest to another, by least squares.

    Args:
        source: (N, 2) as x, y.
        target: (N, 2), the point of each row's counterpart.

    Returns:
        The transform, or None where none is determined: fewer than two points, points that
        coincide, or counterparts that show no common rotation and scale.

    """
    if len(source) < 2:  # noqa: PLR2004 - four unknowns, two numbers a point
        return None
    z = source[:, 0] + 1j * source[:, 1]
    w = target[:, 0] + 1j * target[:, 1]
    z_mean, w_mean = complex(z.mean()), complex(w.mean())
    z, w = z - z_mean, w - w_mean
    spread = float(np.sum(np.abs(z) ** 2))
    if not spread > len(z) * (_MIN_SPREAD * max(1.0, abs(z_mean))) ** 2:  # also when not finite
        return None
    turn = complex(np.sum(np.conj(z) * w)) / spread
    if not abs(turn) > _MIN_SPREAD:
        return None
    shift = w_mean - turn * z_mean
    return Similarity(turn.real, turn.imag, shift.real, shift.imag)
