"""Weights that processes share: equal results, made once, and given up where it can't be."""

import logging
import os
from collections import namedtuple
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper, save_model

from deployments.runtime import mapped_weights
from deployments.runtime.mapped_weights import MIN_BYTES, with_mapped_weights
from deployments.runtime.onnx_session import OnnxSession

DiskUsage = namedtuple("DiskUsage", "total used free")  # noqa: PYI024 - stands for shutil's own

WIDTH = 2048
"""A square of it in float32 is as large as MIN_BYTES."""


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    """Write a graph with one large matrix product."""
    weights = np.random.default_rng(0).normal(size=(WIDTH, WIDTH)).astype(np.float32)
    made = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", WIDTH])],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 11)], ir_version=6)
    path = tmp_path / "g.onnx"
    save_model(model, path)
    assert path.stat().st_size >= MIN_BYTES
    return path


def mapped_bytes(file: Path) -> int:
    """How many bytes of a file this process has mapped."""
    total = 0
    for line in Path("/proc/self/maps").read_text().splitlines():
        if line.endswith(str(file)):
            begin, end = (int(number, 16) for number in line.split()[0].split("-"))
            total += end - begin
    return total


def test_equal_results(graph: Path) -> None:
    """Mapped weights give the same numbers, to the last bit, and are mapped indeed."""
    x = np.random.default_rng(1).normal(size=(3, WIDTH)).astype(np.float32)
    plain = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
    session = OnnxSession(graph)
    expected = np.vstack([np.asarray(plain.run(None, {"x": row[None]})[0]) for row in x])
    np.testing.assert_array_equal(expected, session.run(x)[0])
    assert mapped_bytes(with_mapped_weights(graph).parent / "weights.bin") >= WIDTH * WIDTH * 4


def test_made_once(graph: Path) -> None:
    """The second process finds what the first has made; another graph of the name is made anew."""
    first = with_mapped_weights(graph)
    made = first.stat().st_mtime_ns
    assert first == with_mapped_weights(graph)
    assert made == first.stat().st_mtime_ns
    os.utime(graph, (1, 1))
    second = with_mapped_weights(graph)
    assert first != second
    assert not first.exists()
    assert [second.parent] == [path for path in graph.parent.iterdir() if path.is_dir()]


def test_small_graphs(tmp_path: Path) -> None:
    """A small graph is loaded as it is."""
    path = tmp_path / "small.onnx"
    path.write_bytes(b"x" * (MIN_BYTES - 1))
    assert path == with_mapped_weights(path)
    assert [path] == list(tmp_path.iterdir())


def test_broken_graph(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What ONNX Runtime can't load is left to the session to complain about."""
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"x" * MIN_BYTES)
    with caplog.at_level(logging.WARNING):
        assert path == with_mapped_weights(path)
    assert "broken.onnx are not shared" in caplog.text
    assert not any(found.is_dir() for found in tmp_path.iterdir())


def test_full_disk(
    graph: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is no room the graph is loaded as it is, with a warning that says so."""
    monkeypatch.setattr(mapped_weights.shutil, "disk_usage", lambda _: DiskUsage(9, 9, 10_000_000))
    with caplog.at_level(logging.WARNING):
        assert graph == with_mapped_weights(graph)
    assert "expected 50 MB on the disk, 10 are" in caplog.text
