"""The YAML file: what is wrong with it is said with file, key, value and expectation."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from deployments.runtime.errors import ConfigError
from serve_app.app import build_graph
from serve_app.config import AppArgs, load_file
from serve_app.graph import INGRESS
from serve_app.settings import config_folder
from serve_app.stores import open_models

SHIPPED = sorted(config_folder().glob("serve*.yaml"))


def write(folder: Path, change: dict[str, Any] | None = None, **application: Any) -> Path:  # noqa: ANN401 - YAML values
    """Write a small valid file, with parts replaced."""
    path = folder / "serve.yaml"
    app = {
        "name": "cl-ml-serve",
        "route_prefix": "/",
        "import_path": "serve_app.app:build",
        "args": {"graph": {"face_detection": {"needs": ["image"]}}},
        **application,
    }
    path.write_text(yaml.safe_dump({"applications": [app], **(change or {})}), encoding="utf-8")
    return path


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_shipped_files_are_valid(path: Path) -> None:
    """Every file in config/ passes all checks that `cl-serve up` makes."""
    file = load_file(path)
    graph = build_graph(file.args, open_models(file.args.models))
    file.check_deployments({INGRESS: (), **graph.hosts})
    assert file.http_host == "127.0.0.1"


@pytest.mark.parametrize(
    ("change", "application", "expected"),
    [
        ({"http_option": {}}, {}, "http_option: unknown key (value {}); expected one of proxy_loc"),
        ({"http_options": {"prt": 1}}, {}, "http_options.prt: unknown key (value 1)"),
        ({"http_options": {"port": "x"}}, {}, "http_options.port: "),
        ({"applications": []}, {}, "applications: expected exactly 1 entry, got 0"),
        ({}, {"imprt": 1}, "applications[0].imprt: unknown key"),
        ({}, {"args": {}}, "applications[0].args.graph: missing"),
        (
            {},
            {"args": {"graph": {"face_detection": {"needs": ["image"], "modle": "x"}}}},
            "applications[0].args.graph.face_detection.modle: unknown key (value 'x')",
        ),
        (
            {},
            {"args": {"graph": {"a": {"needs": []}}, "limits": {"max_files": 0}}},
            "args.limits.max_files: Input should be greater than or equal to 1, got 0",
        ),
        (
            {},
            {"deployments": [{"name": "face_detection", "num_replica": 2}]},
            "applications[0].deployments[0].num_replica: unknown key (value 2)",
        ),
        (
            {},
            {"deployments": [{"name": "face_detection", "ray_actor_options": {"cpus": 2}}]},
            "deployments[0].ray_actor_options.cpus: unknown key (value 2)",
        ),
    ],
)
def test_wrong_file(
    tmp_path: Path,
    change: dict[str, Any],
    application: dict[str, Any],
    expected: str,
) -> None:
    """A mistake anywhere in the file is an error that names it."""
    path = write(tmp_path, change, **application)
    with pytest.raises(ConfigError) as raised:
        load_file(path)
    assert expected in str(raised.value)
    assert str(raised.value).startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("deployment", "expected"),
    [
        ({"name": "faces"}, "deployments[0].name: the graph has no deployment 'faces'; expected"),
        (
            {"name": "face_detection", "user_config": {"face_detection": {"batch": 2}}},
            "deployments[0].user_config.face_detection.batch: unknown key (value 2)",
        ),
        (
            {"name": "ingress", "user_config": {"face_detection": {}}},
            "deployments[0].user_config.face_detection: not a node of this deployment",
        ),
    ],
)
def test_wrong_deployment(tmp_path: Path, deployment: dict[str, Any], expected: str) -> None:
    """Deployments and their tuning are checked against the graph."""
    file = load_file(write(tmp_path, deployments=[deployment]))
    with pytest.raises(ConfigError) as raised:
        file.check_deployments({INGRESS: (), "face_detection": ("face_detection",)})
    assert expected in str(raised.value)


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        ({"model": "retinaface"}, "face_detection.model: 'retinaface' is not in the catalogue"),
        ({"provider": "npu"}, "face_detection.provider: unknown provider 'npu'; expected one of"),
        ({"capability": "face_alignment", "needs": []}, "takes Picture and DetectedFaces"),
    ],
)
def test_wrong_node(node: dict[str, Any], expected: str) -> None:
    """Models and providers of nodes are checked before anything starts."""
    args = AppArgs.model_validate({"graph": {"face_detection": {"needs": ["image"], **node}}})
    with pytest.raises(ConfigError) as raised:
        build_graph(args, open_models(args.models))
    assert expected in str(raised.value)


def test_model_of_a_node_without_one() -> None:
    """Naming a model where none is run is a mistake, not a wish that is ignored."""
    graph = {
        "face_detection": {"needs": ["image"]},
        "face_alignment": {"needs": ["image", "face_detection"], "model": "mobilefacenet"},
    }
    args = AppArgs.model_validate({"graph": graph})
    with pytest.raises(ConfigError, match="face_alignment runs no model, got 'mobilefacenet'"):
        build_graph(args, open_models(args.models))


def test_unreadable_files(tmp_path: Path) -> None:
    """A missing file, wrong YAML and a list at the top each say so."""
    with pytest.raises(ConfigError, match="can't be read: No such file"):
        load_file(tmp_path / "nothing.yaml")
    path = tmp_path / "serve.yaml"
    path.write_text("a: [", encoding="utf-8")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_file(path)
    path.write_text("- a", encoding="utf-8")
    with pytest.raises(ConfigError, match="expected a mapping at the top, got list"):
        load_file(path)


def test_overrides_and_relative_paths(tmp_path: Path) -> None:
    """The command line wins over the file; paths in it start at its own folder."""
    args = {"graph": {"face_detection": {"needs": ["image"]}}, "models": {"cache": "models"}}
    file = load_file(write(tmp_path, args=args))
    assert file.args.models.cache == str(tmp_path / "models")
    assert (file.http_port, file.args.models.offline) == (8000, False)
    changed = file.with_overrides(port=9000, offline=True)
    assert (changed.http_port, changed.args.models.offline) == (9000, True)
    unchanged = file.with_overrides(port=None, offline=None)
    assert unchanged.raw == file.raw
