"""How a deployment may be set up, and what that changes in its file."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from serve_app.app import check_graph
from serve_app.cli.graph_tree import plan_of
from serve_app.cli.tune.edit import Change
from serve_app.cli.tune.settings import (
    NodeSetting,
    Reasons,
    Setting,
    candidates,
    changes,
    setting_of,
)
from serve_app.config import ServeFile
from serve_app.stores import open_models

NODE = NodeSetting(num_threads=1, max_batch_size=16, max_concurrent_batches=1)
NOW = Setting(2, 1, {"face_detection": NODE})
GRAPH = {
    "face_detection": {"needs": ["image"]},
    "face_alignment": {"needs": ["image", "face_detection"]},
}


def file_with(*deployments: dict[str, Any]) -> ServeFile:
    """Make a file of two nodes and some entries of ``deployments``."""
    application = {
        "import_path": "serve_app.app:build",
        "args": {"graph": GRAPH},
        "deployments": list(deployments),
    }
    return ServeFile({"applications": [application]}, Path("my.yaml"))


def read(file: ServeFile) -> Setting:
    """Read what a file says of the deployment ``face_detection``."""
    plans = plan_of(file, check_graph(file, open_models(file.args.models)))
    (plan,) = (plan for plan in plans if plan.name == "face_detection")
    return setting_of(plan, ("face_detection",))


@pytest.mark.parametrize(
    ("entry", "replicas", "workers", "node"),
    [
        ({}, 1, 1, NODE),
        ({"num_replicas": 3, "ray_actor_options": {"num_cpus": 0.1}}, 3, 1, NODE),
        ({"ray_actor_options": {"num_cpus": 1.1}}, 1, 2, NODE),
        ({"autoscaling_config": {"min_replicas": 0, "max_replicas": 2}}, 2, 1, NODE),
        (
            {"user_config": {"face_detection": {"max_batch_size": 4, "max_concurrent_batches": 2}}},
            1,
            1,
            NodeSetting(1, 4, 2),
        ),
    ],
)
def test_what_a_file_says(
    entry: dict[str, Any], replicas: int, workers: int, node: NodeSetting
) -> None:
    """Replicas, threads and batches are those of the file, or the defaults."""
    file = file_with({"name": "face_detection", **entry})
    assert Setting(replicas, workers, {"face_detection": node}) == read(file)


def test_what_a_file_does_not_say() -> None:
    """A deployment without an entry has the defaults."""
    assert Setting(1, 1, {"face_detection": NODE}) == read(file_with())


@pytest.mark.parametrize(
    ("cores", "expected"),
    [
        (1, ["2 processes", "1 process"]),
        (
            2,
            [
                "2 processes",
                "1 process × 2 workers",
                "1 process × 2 workers × 2 batches",
                "1 process × 2 threads",
            ],
        ),
        (
            3,
            [
                "2 processes",
                "1 process × 3 workers",
                "1 process × 3 workers × 3 batches",
                "1 process × 2 threads",
                "1 process × 3 threads",
                "3 processes",
            ],
        ),
    ],
)
def test_candidates(cores: int, expected: list[str]) -> None:
    """The present setting comes first; the others use each core once."""
    assert expected == [str(option) for option in candidates(NOW, cores, scales=False)]


@pytest.mark.parametrize("cores", range(1, 17))
def test_candidates_fit(cores: int) -> None:
    """None of them has more to do at once than there are cores, and none comes twice."""
    found = list(candidates(NOW, cores, scales=False))
    for option in found[1:]:
        (node,) = option.nodes.values()
        assert option.replicas * option.worker_threads * node.num_threads <= cores
        assert NODE.max_batch_size == node.max_batch_size
    assert len(found) == len(set(map(repr, found)))


def test_candidates_of_what_scales() -> None:
    """Where Serve chooses the number of replicas, it stays."""
    found = list(candidates(NOW, 4, scales=True))
    assert {2} == {option.replicas for option in found}
    assert 4 == len(found)


def test_changes_of_an_entry() -> None:
    """Each changed value has its key and its reason; what is equal is left out."""
    file = file_with({"name": "ingress"}, {"name": "face_detection", "num_replicas": 2})
    new = Setting(1, 2, {"face_detection": NodeSetting(3, 4, 2)})
    entry = ("applications", 0, "deployments", 1)
    tuning = (*entry, "user_config", "face_detection")
    graph = ("applications", 0, "args", "graph")
    expected = [
        Change((*entry, "num_replicas"), 1, "faster"),
        Change((*entry, "ray_actor_options", "num_cpus"), 1.1, "faster"),
        Change((*tuning, "max_batch_size"), 4, "fuller"),
        Change((*tuning, "max_concurrent_batches"), 2, "faster"),
        Change((*graph, "face_detection", "num_threads"), 3, "faster"),
    ]
    reasons = Reasons("faster", {"face_detection": "fuller"})
    assert expected == list(changes(file, "face_detection", NOW, new, reasons))
    assert [] == list(changes(file, "face_detection", NOW, NOW, reasons))


def test_changes_without_an_entry() -> None:
    """A deployment that the file does not list gets an entry, its name first."""
    new = replace(NOW, replicas=1)
    (name, replicas) = changes(file_with(), "face_detection", NOW, new, Reasons())
    entry = ("applications", 0, "deployments", 0)
    assert Change((*entry, "name"), "face_detection") == name
    assert (*entry, "num_replicas") == replicas.key


def test_batches() -> None:
    """A batch size changes for one node alone."""
    both = Setting(1, 1, {"a": NODE, "b": NODE})
    found = both.with_batch("b", 2)
    assert {"a": 16, "b": 2} == {name: node.max_batch_size for name, node in found.nodes.items()}
