"""Layouts that are derived from a YAML file of the graph."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.errors import BenchmarkError
from benchmarks.layouts import DEFAULT_CONFIG, FACE_NODES, LAYOUTS, GraphFile, Layout
from serve_app.app import build_graph
from serve_app.config import ServeFile
from serve_app.graph import INGRESS
from serve_app.stores import open_models


def by_name(raw: dict[str, Any]) -> dict[str, Any]:
    """Deployments of the file's application by name."""
    return {entry["name"]: entry for entry in raw["applications"][0]["deployments"]}


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.title)
def test_every_layout_of_the_default_file_is_valid(layout: Layout) -> None:
    """The service's own checks pass, and the nodes are hosted as the layout says."""
    file = ServeFile(GraphFile(DEFAULT_CONFIG).with_layout(layout), DEFAULT_CONFIG)
    graph = build_graph(file.args, open_models(file.args.models))
    file.check_deployments({INGRESS: (), **graph.hosts})
    hosted = {node: graph[node].host for node in FACE_NODES}
    expected = {node: host for host, nodes in layout.hosts.items() for node in nodes}
    assert {node: expected.get(node, node) for node in FACE_NODES} == hosted


def test_replicas_and_batches_are_set() -> None:
    """What is not named has one replica; every face node gets the number of batches."""
    layout = Layout("x", {"faces": FACE_NODES}, {"faces": 2}, concurrent_batches=3)
    deployments = by_name(GraphFile(DEFAULT_CONFIG).with_layout(layout))
    replicas = {name: entry["num_replicas"] for name, entry in deployments.items()}
    assert {**dict.fromkeys(replicas, 1), "faces": 2} == replicas
    tuning = deployments["faces"]["user_config"]
    assert dict.fromkeys(FACE_NODES, 3) == {
        name: settings["max_concurrent_batches"] for name, settings in tuning.items()
    }


def written(folder: Path, models: dict[str, str]) -> Path:
    """Write a file with one node more than the faces', tuned, in a host with one of them."""
    args = {
        "graph": {name: {"needs": ["image"]} for name in (*FACE_NODES, "other")},
        "hosts": {"mixed": ["face_detection", "other"]},
        "models": models,
    }
    deployments = [
        {"name": "mixed", "num_replicas": 4, "user_config": {"face_detection": {"params": {}}}},
    ]
    path = folder / "serve.yaml"
    path.write_text(yaml.safe_dump({"applications": [{"args": args, "deployments": deployments}]}))
    return path


def test_other_nodes_stay_and_tuning_follows_its_node(tmp_path: Path) -> None:
    """Only the face nodes move."""
    layout = Layout("x", {"faces": FACE_NODES}, {})
    raw = GraphFile(written(tmp_path, {})).with_layout(layout)
    hosts = raw["applications"][0]["args"]["hosts"]
    assert {"mixed": ["other"], "faces": list(FACE_NODES)} == hosts
    assert {"params": {}, "max_concurrent_batches": 1} == (
        by_name(raw)["faces"]["user_config"]["face_detection"]
    )
    assert "user_config" not in by_name(raw)["mixed"]


def test_the_file_itself_is_not_changed(tmp_path: Path) -> None:
    """A layout is a copy, so that the next one starts from the file again."""
    file = GraphFile(written(tmp_path, {}))
    before = yaml.safe_dump(file.raw)
    file.with_layout(LAYOUTS[-1])
    assert before == yaml.safe_dump(file.raw)


def test_paths_become_absolute(tmp_path: Path) -> None:
    """The derived file lies in another folder."""
    path = written(tmp_path, {"cache": "models"})
    raw = GraphFile(path).with_layout(LAYOUTS[0])
    assert str(tmp_path / "models") == raw["applications"][0]["args"]["models"]["cache"]


@pytest.mark.parametrize("text", ["", "applications: []", "a: [", "applications: [{args: {}}]"])
def test_a_file_of_something_else_is_refused(tmp_path: Path, text: str) -> None:
    """The message names the file."""
    path = tmp_path / "serve.yaml"
    path.write_text(text)
    with pytest.raises(BenchmarkError, match=r"serve\.yaml: not a file of the graph"):
        GraphFile(path)


def test_a_graph_without_faces_is_refused(tmp_path: Path) -> None:
    """The message names the nodes that are missing."""
    path = tmp_path / "serve.yaml"
    path.write_text("applications: [{args: {graph: {face_detection: {needs: [image]}}}}]")
    with pytest.raises(BenchmarkError, match="lacks face_alignment, face_embedding"):
        GraphFile(path)
