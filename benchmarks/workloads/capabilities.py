"""Workloads that only cl-ml-serve takes: each capability, a whole ``analyze``, and mixed traffic.

Video streams are left out: one takes many seconds, and `python -m benchmarks capabilities` compares
them with FFmpeg by hand.
"""

from collections.abc import Sequence
from typing import Any

import httpx2

from benchmarks.workloads.workload import Post, Workload

ANALYZE = (
    "/v1/analyze?outputs=face_embedding,dino_embedding,clip_embedding,exif,hash,media_thumbnail"
)
_TEXT = "a man in a suit"
_PHOTO_PATHS = {
    "face_detection": "/v1/face_detection",
    "dino_embedding": "/v1/dino_embedding",
    "clip_embedding": "/v1/clip_embedding",
    "exif": "/v1/exif",
    "hash": "/v1/hash",
    "media_thumbnail": "/v1/media_thumbnail?width=256&height=256",
    "image_conversion": "/v1/image_conversion?format=webp",
    "analyze": ANALYZE,
}
_MIX = {"faces": 8, "exif": 2, "hash": 2, "media_thumbnail": 4, "dino_embedding": 1, "text": 1}
"""How often each takes its turn in mixed traffic: a library that imports photos, whose thumbnails
somebody looks at, and a search now and then. Every fourth of the faces is a large photo's."""

MIXED = "mixed traffic"
NAMES = (*_PHOTO_PATHS, "face_alignment", "clip_text_embedding", "clip_similarity", MIXED)


def workloads(small: bytes, large: bytes) -> list[Workload]:
    """Make them from two photos, in the order of ``NAMES``."""
    of_photo = {name: Post(path, small) for name, path in _PHOTO_PATHS.items()}
    text = Post("/v1/clip_text_embedding", _TEXT.encode(), "text/plain")
    singles = {
        **of_photo,
        "face_alignment": Post("/v1/face_alignment", small),
        "clip_text_embedding": text,
        "clip_similarity": _form(
            "/v1/clip_similarity", data={"text": _TEXT}, files={"file": ("photo.jpg", small)}
        ),
    }
    faces = [Post("/v1/face_embedding", large if i % 4 == 0 else small) for i in range(4)]
    kinds = {**{name: [post] for name, post in singles.items()}, "faces": faces, "text": [text]}
    mixed = _interleaved({name: (kinds[name], turns) for name, turns in _MIX.items()})
    return [
        *(Workload(name, [post]) for name, post in singles.items()),
        Workload(MIXED, mixed),
    ]


def _interleaved(parts: dict[str, tuple[Sequence[Post], int]]) -> list[Post]:
    """Spread the turns of each part evenly over a round."""
    turns = [
        ((i + 0.5) / count, posts[i % len(posts)])
        for posts, count in parts.values()
        for i in range(count)
    ]
    return [post for _, post in sorted(turns, key=lambda turn: turn[0])]


def _form(path: str, **parts: Any) -> Post:  # noqa: ANN401 - httpx2's own forms of data and files
    request = httpx2.Request("POST", f"http://service{path}", **parts)
    return Post(path, request.read(), request.headers["Content-Type"])
