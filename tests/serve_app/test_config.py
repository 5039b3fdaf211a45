"""The YAML file: what is wrong with it is said with file, line, key, value and expectation."""

import re
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployments.runtime.errors import ClServeError, ConfigError
from serve_app.app import build_graph, check_graph
from serve_app.cluster_spec import is_loopback
from serve_app.config import AppArgs, ClusterSpec, ServeFile, load_file, params_problems
from serve_app.graph import INGRESS
from serve_app.host import Host
from serve_app.settings import config_folder
from serve_app.stores import open_models
from tests.serve_app.fake import WordsParams, make_graph, make_settings

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
    """Every file in config/ passes all checks; only one for several machines lets others in."""
    file = load_file(path)
    check_graph(file, open_models(file.args.models))
    assert is_loopback(file.http_host) or not is_loopback(file.cluster.address)


@pytest.mark.parametrize(
    ("change", "application", "expected"),
    [
        (
            {"http_option": {}},
            {},
            "http_option: unknown key (value {}); did you mean 'http_options'?",
        ),
        ({"http_options": {"prt": 1}}, {}, "http_options.prt: unknown key (value 1)"),
        ({"http_options": {"port": "x"}}, {}, "http_options.port: "),
        ({"applications": []}, {}, "applications: expected at least 1 entry, got 0"),
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
            "args.limits.max_files: expected a number greater than or equal to 1, got 0",
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
    assert re.match(rf"{re.escape(str(path))}:\d+: ", str(raised.value))


@pytest.mark.parametrize(
    ("deployment", "expected"),
    [
        ({"name": "faces"}, "deployments[0].name: the graph has no deployment 'faces'; expected"),
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
        (
            {"provider": "npu"},
            "args.graph.face_detection.provider: expected one of auto, cpu, cuda",
        ),
        (
            {"capability": "face_alignment", "needs": []},
            "expected Picture (from image) and DetectedFaces (from no",
        ),
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


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"a: [", "1: not valid YAML"),
        (b"- a", "1: expected a mapping at the top, got a list"),
        (b"", "1: expected a mapping at the top, got nothing"),
        (b"a: 1\nb: \xff", "2: expected text in UTF-8, got other bytes"),
        (b"a: \x00", " not valid YAML: unacceptable character #x0000"),
        (b"? [a]\n: 1", "1: not valid YAML: while constructing a mapping, found unhashable key"),
    ],
)
def test_unreadable_files(tmp_path: Path, content: bytes, expected: str) -> None:
    """What is not text, not YAML or not a mapping is said with its line."""
    path = tmp_path / "serve.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as raised:
        load_file(path)
    assert str(raised.value).startswith(f"{path}:{expected}")


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({}, False),
        ({"limit": 5}, False),
        ({"limit": "5"}, False),
        ({"limit": 0}, True),
        ({"limit": "many"}, True),
        ({"limits": 5}, True),
    ],
)
def test_replicas_refuse_the_same_parameters(params: dict[str, Any], *, expected: bool) -> None:
    """Default parameters that a replica would refuse live are found in the file, and no others."""
    assert expected == bool(list(params_problems(WordsParams, params)))
    host = Host([(make_graph()["words"], make_settings())])
    with pytest.raises(ClServeError) if expected else nullcontext():
        host.reconfigure({"words": {"params": params}})


def test_missing_file(tmp_path: Path) -> None:
    """A file that is not there is said to be so."""
    with pytest.raises(ConfigError, match=r"nothing\.yaml: can't be read: No such file"):
        load_file(tmp_path / "nothing.yaml")


def test_overrides_and_relative_paths(tmp_path: Path) -> None:
    """The command line wins over the file; paths in it start at its own folder."""
    args = {"graph": {"face_detection": {"needs": ["image"]}}, "models": {"cache": "models"}}
    file = load_file(write(tmp_path, {"cluster": {"port": 7000}}, args=args))
    assert str(tmp_path / "models") == file.args.models.cache
    assert (8000, False) == (file.http_port, file.args.models.offline)
    changed = file.with_overrides(port=9000, offline=True)
    assert (9000, True) == (changed.http_port, changed.args.models.offline)
    assert 7000 == changed.cluster.port
    unchanged = file.with_overrides(port=None, offline=None)
    assert file.document == unchanged.document


def test_lines_survive_overrides(tmp_path: Path) -> None:
    """What is found after the command line was heard still has its line."""
    path = write(tmp_path, deployments=[{"name": "faces"}])
    file = load_file(path).with_overrides(port=9000, offline=True)
    with pytest.raises(ConfigError, match=rf"^{path}:8: applications\[0\]\.deployments\[0\]\.name"):
        check_graph(file, open_models(file.args.models))


def test_content_without_a_text(tmp_path: Path) -> None:
    """A file that is made of values has no lines; everything else is the same."""
    content = yaml.safe_load(write(tmp_path).read_text())
    content["cluster"] = {"port": 0}
    with pytest.raises(ConfigError) as raised:
        ServeFile(content, Path("made-up"))
    expected = "made-up: cluster.port: expected a number greater than or equal to 1, got 0"
    assert expected == str(raised.value)


def test_serve_is_not_given_the_cluster(tmp_path: Path) -> None:
    """``cluster`` is ours; Serve gets the rest, with our default of where HTTP listens."""
    given = {"address": "pi.local", "port": 7000, "metrics_port": 7001}
    file = load_file(write(tmp_path, {"cluster": given}))
    assert ClusterSpec.model_validate(given) == file.cluster
    assert {"applications", "http_options"} == set(file.raw)
    assert {"host": "127.0.0.1"} == file.raw["http_options"]
    assert {"applications", "http_options", "cluster"} == set(file.document)


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "192.168.1.20", "::1", "pi", "pi-4.local", "a.b."]
)
def test_addresses(address: str) -> None:
    """An IP address or a name is taken as it is."""
    assert address == ClusterSpec(address=address).address


@pytest.mark.parametrize(
    "address",
    ["", "0.0.0.0", "::", "192.168.1", "pi 4", "http://pi", "pi:80"],  # noqa: S104 - refused
)
def test_wrong_addresses(address: str) -> None:
    """What no machine can be reached at is refused."""
    with pytest.raises(ValueError, match="expected the IP address or the name of this machine"):
        ClusterSpec(address=address)


@pytest.mark.parametrize(
    ("address", "expected"),
    [("127.0.0.2", True), ("::1", True), ("localhost", True), ("10.0.0.1", False), ("pi", False)],
)
def test_loopback(address: str, *, expected: bool) -> None:
    """It is known at which addresses nobody else reaches the machine."""
    assert expected == is_loopback(address)


def test_merged_keys(tmp_path: Path) -> None:
    """YAML's ``<<`` fills a mapping in, and a mistake in it is found where it was written."""
    path = tmp_path / "serve.yaml"
    path.write_text(
        "applications:\n"
        "  - import_path: serve_app.app:build\n"
        "    args:\n"
        "      graph:\n"
        "        hash: &node\n"
        "          needs: [upload]\n"
        "          num_threads: 0\n"
        "        again:\n"
        "          <<: [*node]\n"
        "          capability: hash\n",
    )
    with pytest.raises(ConfigError) as raised:
        load_file(path)
    key = "applications[0].args.graph.{}.num_threads"
    expected = [
        f"{path}:7: {key.format(node)}: expected a number greater than or equal to 1, got 0"
        for node in ("hash", "again")
    ]
    assert expected == str(raised.value).splitlines()
