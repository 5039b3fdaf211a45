"""Answers of a service against those of bare."""

import json
from typing import Any

import numpy as np
import pytest

from benchmarks.errors import BenchmarkError
from benchmarks.load.connection import Reply
from benchmarks.workloads.answers import check

UNITS = np.eye(20, 192, dtype=np.float32)


def reply(embeddings: list[Any], status: int = 200) -> Reply:
    """Write the answer of a service that found these faces."""
    faces = [{"embedding": list(map(float, embedding))} for embedding in embeddings]
    return Reply(status, "", 0.0, json.dumps({"faces": faces}).encode())


@pytest.mark.parametrize(
    ("found", "expected"),
    [(0, 0), (1, 1), (20, 20), (18, 20)],
)
def test_the_same_faces_pass(found: int, expected: int) -> None:
    """In any order; of many faces one in ten may be missed."""
    embeddings = list(UNITS[:found][::-1])
    assert 1.0 == pytest.approx(check(reply(embeddings), list(UNITS[:expected]), "x"))


@pytest.mark.parametrize(
    ("answer", "expected", "complaint"),
    [
        (reply([], 500), 1, "x answers 500"),
        (reply([]), 1, "x finds 0 faces in a photo of 1"),
        (reply([UNITS[0]]), 0, "x finds 1 faces in a photo of 0"),
        (reply(list(UNITS[:17])), 20, "x finds 17 faces in a photo of 20"),
        (reply([2 * UNITS[0]]), 1, "length 2.000"),
        (reply([UNITS[1]]), 1, "cosine 0.000"),
        (Reply(200, "", 0.0, b"[]"), 1, "x gives no faces"),
        (Reply(200, "", 0.0, b"<html>"), 1, "x gives no faces"),
    ],
)
def test_other_answers_are_refused(answer: Reply, expected: int, complaint: str) -> None:
    """The message names the service and what is wrong."""
    with pytest.raises(BenchmarkError, match=complaint):
        check(answer, list(UNITS[:expected]), "x")
