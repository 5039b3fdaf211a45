"""The similarity transform."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from deployments.face_alignment.algo.similarity import Similarity, fit_similarity

Points = NDArray[np.float64]

coordinates = st.floats(-1000, 1000)
point_sets = st.integers(2, 6).flatmap(
    lambda count: arrays(np.float64, (count, 2), elements=coordinates, unique=True)
)
similarities = st.builds(
    lambda scale, angle, tx, ty: Similarity(
        scale * float(np.cos(angle)), scale * float(np.sin(angle)), tx, ty
    ),
    st.floats(0.01, 100),
    st.floats(-np.pi, np.pi),
    coordinates,
    coordinates,
)
SQUARE = np.array([(0, 0), (1, 0), (1, 1), (0, 1)], np.float64)


def is_spread(points: Points) -> bool:
    """Whether points are far enough apart for a test in floating point."""
    return float(np.ptp(points, axis=0).max()) > 1


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ([], []),
        ([(1, 2)], [(3, 4)]),
        ([(5, 5), (5, 5), (5, 5)], [(0, 0), (1, 0), (0, 1)]),
        ([(0, 0), (1, 0)], [(3, 3), (3, 3)]),
        ([(np.nan, 0), (1, 0)], [(0, 0), (1, 0)]),
    ],
)
def test_undetermined(source: list[tuple[float, float]], target: list[tuple[float, float]]) -> None:
    """Too few points, and points that coincide, give no transform."""
    points = [np.array(values, np.float64).reshape(-1, 2) for values in (source, target)]
    assert fit_similarity(*points) is None


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (SQUARE, Similarity(1, 0, 0, 0)),
        (SQUARE * 3, Similarity(3, 0, 0, 0)),
        (SQUARE + np.array([5, -2]), Similarity(1, 0, 5, -2)),
        (SQUARE @ np.array([(0, 1), (-1, 0)]), Similarity(0, 1, 0, 0)),
    ],
)
def test_fit(target: Points, expected: Similarity) -> None:
    """Identity, scale, shift and quarter turn are found."""
    found = fit_similarity(SQUARE, target)
    assert found is not None
    assert (found.a, found.b, found.tx, found.ty) == pytest.approx(
        (expected.a, expected.b, expected.tx, expected.ty)
    )


def test_never_a_reflection() -> None:
    """A mirrored set is met as well as turning allows, and never mirrored."""
    points = np.array([(0, 0), (4, 0), (4, 1), (0, 2)], np.float64)
    found = fit_similarity(points, points * (-1, 1))
    assert found is not None
    turned = found.apply(points)
    first, second = turned[1] - turned[0], turned[3] - turned[0]
    assert first[0] * second[1] - first[1] * second[0] > 0


@given(point_sets.filter(is_spread), similarities)
def test_fit_recovers(points: Points, transform: Similarity) -> None:
    """What a similarity did is found again."""
    moved = transform.apply(points)
    found = fit_similarity(points, moved)
    assert found is not None
    np.testing.assert_allclose(found.apply(points), moved, rtol=1e-6, atol=1e-4)


@given(similarities, arrays(np.float64, (3, 2), elements=coordinates))
def test_inverse(transform: Similarity, points: Points) -> None:
    """There and back is where it was."""
    back = transform.inverse.apply(transform.apply(points))
    np.testing.assert_allclose(back, points, rtol=1e-6, atol=1e-4)
    assert transform.scale * transform.inverse.scale == pytest.approx(1)


@given(
    arrays(np.float64, (4, 2), elements=st.floats(-10, 10), unique=True).filter(is_spread),
    arrays(np.float64, (4, 2), elements=st.floats(-10, 10)),
    similarities,
)
def test_fit_is_best(source: Points, target: Points, other: Similarity) -> None:
    """No other similarity brings the points nearer."""
    found = fit_similarity(source, target)
    if found is None:
        return
    best = float(np.sum((found.apply(source) - target) ** 2))
    assert best <= float(np.sum((other.apply(source) - target) ** 2)) + 1e-6
