"""Checks that all subjects give the same answer: a faster one that finds less is no peer."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.errors import BenchmarkError
from benchmarks.load.generator import Reply

MIN_COSINE = 0.98
"""Between the embeddings of two subjects, where one face fills a photo. They decode at different
scales, which moves an embedding a little; two photos of one person are at 0.74 to 0.93."""

MIN_COSINE_IN_GROUP = 0.9
"""The same for the median of many faces: of a face of 30 pixels other pixels are seen at another
scale."""

MAX_MISSED = 0.1
"""Share of a group's faces that a subject may miss or add: small ones are near the threshold."""

_OK = 200


def check(reply: Reply, expected: Sequence[NDArray[np.float32]], title: str) -> float:
    """Compare a service's answer to a photo with the bare one.

    Args:
        reply: its answer.
        expected: of each face the embedding (D,), of length 1.
        title: names the service in messages.

    Returns:
        The median over its faces of the cosine to the nearest of the expected embeddings; 1
        where no face is expected.

    Raises:
        BenchmarkError: no answer, another number of faces, an embedding that is not of length 1, or
            embeddings further from the expected ones than decoding explains.

    """
    if reply.status != _OK:
        text = reply.body.decode("utf-8", "replace")
        raise BenchmarkError(f"{title} answers {reply.status}: {text}")
    embeddings = _embeddings(reply, title)
    if abs(len(embeddings) - len(expected)) > MAX_MISSED * len(expected):
        raise BenchmarkError(f"{title} finds {len(embeddings)} faces in a photo of {len(expected)}")
    if not len(embeddings):
        return 1.0
    lengths = np.linalg.norm(embeddings, axis=1)
    cosine = float(np.median((embeddings @ np.stack(expected).T).max(axis=1)))
    wanted = MIN_COSINE if len(expected) == 1 else MIN_COSINE_IN_GROUP
    if not np.allclose(lengths, 1.0, atol=1e-3) or cosine < wanted:
        raise BenchmarkError(
            f"{title} gives other embeddings than the bare capabilities: length "
            f"{lengths.min():.3f} to {lengths.max():.3f} (1 expected), cosine {cosine:.3f} "
            f"(at least {wanted} expected)",
        )
    return cosine


def _embeddings(reply: Reply, title: str) -> NDArray[np.float32]:
    """Read the embeddings (N, D) of an answer; BentoML's is a list, as its API takes several."""
    try:
        answer: Any = json.loads(reply.body)
        (answer,) = answer if isinstance(answer, list) else (answer,)
        return np.array([face["embedding"] for face in answer["faces"]], np.float32)
    except (ValueError, LookupError, TypeError) as error:
        text = reply.body[:200].decode("utf-8", "replace")
        raise BenchmarkError(f"{title} gives no faces with embeddings: {text}") from error
