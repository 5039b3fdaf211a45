"""The YAML of the graph: what the bare subject needs to know of it, and layouts derived from it."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks.errors import BenchmarkError
from deployments.runtime.capability import NodeSettings
from deployments.runtime.errors import ModelNotInstalledError
from deployments.runtime.models import ModelStore, load_catalogue

ROOT = Path(__file__).resolve().parents[1]
DEFAULT_CONFIG = ROOT / "config" / "serve.yaml"
DEFAULT_CATALOGUE = ROOT / "config" / "models.yaml"
PHOTOS = ROOT / "tests" / "photos.yaml"

FACE_NODES = ("face_detection", "face_alignment", "face_embedding")
INGRESS = "ingress"
_NUM_CPUS = 0.1  # what Ray books per replica; all of a layout must fit on a small machine


@dataclass(frozen=True, slots=True)
class Layout:
    """One way to spread the face nodes over deployments.

    Attributes:
        title: what the table calls it.
        hosts: deployment name to the face nodes that it hosts; a node in none has its own.
        replicas: deployment name to its number of replicas, where it is not 1.
        concurrent_batches: inferences at once of each face node in each replica.

    """

    title: str
    hosts: Mapping[str, tuple[str, ...]]
    replicas: Mapping[str, int]
    concurrent_batches: int = 1


_PAIR = {"face_detection_alignment": FACE_NODES[:2]}
_TOGETHER = {"faces": FACE_NODES}
_IN_INGRESS = {INGRESS: FACE_NODES}

LAYOUTS = (
    Layout("separate", {}, {}),
    Layout("pair", _PAIR, {}),
    Layout("pair, 2 batches", _PAIR, {}, 2),
    Layout("together", _TOGETHER, {}),
    Layout("together, 2 batches", _TOGETHER, {}, 2),
    Layout("together ×2", _TOGETHER, {"faces": 2}),
    Layout("ingress", _IN_INGRESS, {}),
    Layout("ingress, 2 batches", _IN_INGRESS, {}, 2),
    Layout("ingress ×2", _IN_INGRESS, {INGRESS: 2}),
)
"""``pair`` is detection with alignment, ``×2`` two replicas, ``2 batches`` two inferences at once
in one process."""


class GraphFile:
    """A YAML file of the graph, as a user has it."""

    def __init__(self, path: Path) -> None:
        """Read the file; ``cl-serve up`` is who checks it.

        Raises:
            BenchmarkError: it can't be read or lacks a face node.

        """
        self.path = path
        try:
            self.raw: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
            self._args: dict[str, Any] = self.raw["applications"][0]["args"]
            self._graph: dict[str, Any] = self._args["graph"]
        except (OSError, yaml.YAMLError, LookupError, TypeError) as error:
            raise BenchmarkError(f"{path}: not a file of the graph: {error!r}") from error
        missing = [name for name in FACE_NODES if name not in self._graph]
        if missing:
            raise BenchmarkError(f"{path}: the graph lacks {', '.join(missing)}")

    def store(self) -> ModelStore:
        """Open the model store that the file describes."""
        catalogue = load_catalogue(self._models_path("catalogue") or DEFAULT_CATALOGUE)
        offline = bool((self._args.get("models") or {}).get("offline"))
        return ModelStore(catalogue, self._models_path("cache"), offline=offline)

    def settings(self, node: str, store: ModelStore) -> NodeSettings:
        """What the node's capability gets, with one thread an inference."""
        spec = self._graph[node]
        return NodeSettings(
            store=store,
            model=spec.get("model"),
            provider=spec.get("provider", "auto"),
            num_threads=1,
        )

    def with_layout(self, layout: Layout) -> dict[str, Any]:
        """Return the file's content with the face nodes hosted as ``layout`` says.

        Tuning (``user_config``) goes along with its node; other nodes stay where they are. Paths
        are made absolute, so that the content may be written to any folder.
        """
        raw = copy.deepcopy(self.raw)
        application = raw["applications"][0]
        args = application["args"]
        hosts = {
            name: [node for node in members if node not in FACE_NODES]
            for name, members in (args.get("hosts") or {}).items()
        }
        for name, members in layout.hosts.items():
            hosts[name] = [*hosts.get(name, []), *members]
        args["hosts"] = {name: members for name, members in hosts.items() if members}

        hosted_by = {node: name for name, members in args["hosts"].items() for node in members}
        deployment_of = {node: hosted_by.get(node, node) for node in args["graph"]}
        old = {entry["name"]: entry for entry in application.get("deployments") or []}
        tuning: dict[str, dict[str, Any]] = {}
        for entry in old.values():
            for node, settings in (entry.get("user_config") or {}).items():
                tuning.setdefault(deployment_of[node], {})[node] = settings
        for node in FACE_NODES:
            settings = tuning.setdefault(deployment_of[node], {}).get(node, {})
            tuning[deployment_of[node]][node] = {
                **settings,
                "max_concurrent_batches": layout.concurrent_batches,
            }
        deployments: list[dict[str, Any]] = []
        for name in dict.fromkeys([INGRESS, *deployment_of.values()]):
            entry = dict(old.get(name) or {"ray_actor_options": {"num_cpus": _NUM_CPUS}})
            entry |= {"name": name, "num_replicas": layout.replicas.get(name, 1)}
            entry.pop("user_config", None)
            if name in tuning:
                entry["user_config"] = tuning[name]
            deployments.append(entry)
        application["deployments"] = deployments
        for key in ("catalogue", "cache"):
            if (path := self._models_path(key)) is not None:
                args["models"][key] = str(path)
        return raw

    def _models_path(self, key: str) -> Path | None:
        """Return a path of ``args.models``, which starts at the file's own folder."""
        value = (self._args.get("models") or {}).get(key)
        return (self.path.parent / Path(value).expanduser()).resolve() if value else None


def installed_path(store: ModelStore, name: str) -> Path:
    """Return the path of a model or a photo, fetching it the first time."""
    try:
        return store.path(name)
    except ModelNotInstalledError:
        store.pull(name)
        return store.path(name)
