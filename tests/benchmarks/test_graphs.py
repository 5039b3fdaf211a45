"""The benchmark of converted graphs, on a transformer of two small blocks."""

import pytest

from benchmarks import graphs
from benchmarks.stand_ins.dinov2 import dinov2


def test_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each form of each model has a time, its ratio to the straight one and a cosine near 1."""
    monkeypatch.setattr(graphs, "dinov2", lambda: dinov2(blocks=2, mlp_width=32))
    monkeypatch.setattr(graphs, "_ROUNDS", 1)
    rows = graphs.measure()
    assert [
        ("mobilefacenet", graphs.STRAIGHT),
        ("mobilefacenet", graphs.SHIPPED),
        ("dinov2_vits14_stand_in", graphs.STRAIGHT),
        ("dinov2_vits14_stand_in", graphs.SHIPPED),
        ("dinov2_vits14_stand_in", graphs.DYNAMIC_INT8),
    ] == [(row["model"], row["form"]) for row in rows]
    for row in rows:
        assert row["ms_per_image"] > 0
        assert row["ratio"] > 0
        exact = row["form"] != graphs.DYNAMIC_INT8
        assert pytest.approx(1, abs=1e-5 if exact else 0.01) == row["cosine"]
    assert [1, 1] == [row["ratio"] for row in rows if row["form"] == graphs.STRAIGHT]
