"""A workload: what one client sends, in a circle."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from benchmarks.workloads.photos import Photo


@dataclass(frozen=True, slots=True)
class Post:
    """One request: a path with its query, and a body."""

    path: str
    body: bytes = field(repr=False)
    content_type: str = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Workload:
    """Requests that take turns.

    Attributes:
        name: what reports call it.
        posts: as cl-ml-serve takes them.
        photo: where it is a single photo whose faces are embedded, which every subject can do.
        expected: of each face of that photo the embedding (D,) that bare gives.

    """

    name: str
    posts: Sequence[Post]
    photo: Photo | None = None
    expected: Sequence[NDArray[np.float32]] = ()
