"""What peers compute: the same as ours, for one picture or several."""

from collections.abc import Callable

import numpy as np
import pytest

from benchmarks.layouts import installed_path
from benchmarks.peers.faces import Faces, decode, merge, overlap
from deployments.runtime.models import ModelStore
from deployments.runtime.types import Media

BOX = np.array([0.0, 0.0, 10.0, 10.0])


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        ((0, 0, 10, 10), 1.0),
        ((5, 0, 15, 10), 1 / 3),
        ((10, 10, 20, 20), 0.0),
        ((20, 20, 30, 30), 0.0),
    ],
)
def test_overlap(other: tuple[float, ...], expected: float) -> None:
    """The shared part of two boxes, of what both cover."""
    assert expected == pytest.approx(overlap(BOX, np.array(other, float)))


def test_merge() -> None:
    """Detections that overlap become one, weighted by score; none stay none."""
    points = np.zeros((6, 2))
    one, other, far = (
        (score, BOX + shift, points + shift) for score, shift in ((0.9, 0), (0.3, 2), (0.7, 50))
    )
    assert [] == merge([])
    first, second = merge([other, far, one])
    assert (0.9, 0.7) == (first[0], second[0])
    assert np.allclose(BOX + 0.5, first[1])
    assert np.allclose(0.5, first[2])


def test_batch_equals_singles(store: ModelStore, photo: Callable[[str], Media]) -> None:
    """Pictures of different sizes, one of them without a face."""
    paths = (installed_path(store, name) for name in ("blazeface_full_range", "mobilefacenet"))
    faces = Faces(*paths, threads=1)
    images = [decode(photo(name).data) for name in ("obama", "coffee", "biden")]
    together = [answer["faces"] for answer in faces.run(images)]
    assert [1, 0, 1] == [len(found) for found in together]
    for image, found in zip(images, together, strict=True):
        (alone,) = faces.run([image])
        for face, single in zip(found, alone["faces"], strict=True):
            cosine = np.dot(face["embedding"], single["embedding"])
            assert 1.0 == pytest.approx(cosine, abs=1e-4)
