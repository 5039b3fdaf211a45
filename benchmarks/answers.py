"""Checks that all subjects give the same answer: a faster one that finds less is no peer."""

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.errors import BenchmarkError
from benchmarks.layouts import GraphFile
from benchmarks.load.child import Window, in_process
from benchmarks.load.generator import Target, fetch
from benchmarks.subjects.bare import FacePipeline
from deployments.runtime.picture import Picture
from deployments.runtime.types import Media

MIN_COSINE = 0.98
"""Between the embeddings of two subjects. They decode at different scales, which moves an
embedding a little; two photos of one person are at 0.74 to 0.93."""

_OK = 200


def expected_embedding(config: Path, photo: bytes) -> NDArray[np.float32]:
    """Compute the embedding of the photo's face in a process of its own."""
    return in_process(_bare_embedding, None, config, photo)


def check(url: str, photo: bytes, expected: NDArray[np.float32], title: str) -> float:
    """Ask a service once and compare what it says with the bare result.

    Args:
        url: where the service takes photos.
        photo: its bytes.
        expected: (D,), of length 1.
        title: names the service in messages.

    Returns:
        The cosine of the two embeddings.

    Raises:
        BenchmarkError: no answer, not one face, an embedding that is not of length 1, or one
            that is further from the expected one than decoding explains.

    """
    reply = asyncio.run(fetch(Target(url, photo)))
    if reply.status != _OK:
        text = reply.body.decode("utf-8", "replace")
        raise BenchmarkError(f"{title} answers {reply.status}: {text}")
    faces: list[dict[str, Any]] = json.loads(reply.body)["faces"]
    if len(faces) != 1:
        raise BenchmarkError(f"{title} finds {len(faces)} faces in a photo of one")
    embedding = np.asarray(faces[0]["embedding"], np.float32)
    cosine = float(embedding @ expected)
    if not np.isclose(np.linalg.norm(embedding), 1.0, atol=1e-3) or cosine < MIN_COSINE:
        raise BenchmarkError(
            f"{title} gives another embedding than the bare capabilities: length "
            f"{np.linalg.norm(embedding):.3f} (1 expected), cosine {cosine:.3f} "
            f"(at least {MIN_COSINE} expected)",
        )
    return cosine


def _bare_embedding(_window: Window, config: Path, photo: bytes) -> NDArray[np.float32]:
    found = FacePipeline(GraphFile(config)).run(Picture(Media(photo)))
    if len(found.faces) != 1:
        raise BenchmarkError(f"bare finds {len(found.faces)} faces in a photo of one")
    return np.asarray(found.faces[0].embedding, np.float32)
