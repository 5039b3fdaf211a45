"""The photos of a folder, prepared for a model as the graph prepares them when it serves.

A face model sees faces that were found and turned upright by the nodes before it, so these run
here too, one after another in this process. Every third photo is held out: nothing is learnt from
it, and what is measured on it is the variant's validation.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from deployments.runtime.capability import Capability, NodeSettings, Work
from deployments.runtime.errors import ConfigError, InputError
from deployments.runtime.folders import AllowedFolders
from deployments.runtime.media_type import detect
from deployments.runtime.models import Measure, ModelStore, base_name
from deployments.runtime.picture import DEFAULT_MAX_PIXELS
from deployments.runtime.quantization import TrialSettings, cosine_agreement, detection_agreement
from deployments.runtime.types import DetectedFaces, Media, Upload
from serve_app.cli.analyze.files import find
from serve_app.graph import Graph, Node
from serve_app.roots import FILE_ROOTS, ROOTS, Roots

HOLD_OUT_EVERY = 3

MIN_PHOTOS = 6
"""That give the model something to look at: four to calibrate with and two to validate on. It is
the least that can be computed with; a validation that means something takes a hundred."""


@dataclass(frozen=True, slots=True)
class Photos:
    """What a node makes of photos before its model runs, and how many gave it nothing to do."""

    works: tuple[Work, ...]
    skipped: int

    @property
    def calibration(self) -> tuple[Work, ...]:
        """Two thirds, to learn from."""
        return tuple(w for i, w in enumerate(self.works) if i % HOLD_OUT_EVERY < HOLD_OUT_EVERY - 1)

    @property
    def held_out(self) -> tuple[Work, ...]:
        """The other third."""
        return self.works[HOLD_OUT_EVERY - 1 :: HOLD_OUT_EVERY]


def node_for(graph: Graph, store: ModelStore, model: str) -> Node:
    """Return the node of a graph that runs a model, or that could if the YAML told it to.

    Raises:
        ConfigError: there is none, or it does not look at photos.

    """
    by_name = [n for n in graph.values() if n.model is not None and base_name(n.model) == model]
    for node in (*by_name, *(n for n in graph.values() if n.model is not None)):
        try:
            node.capability(NodeSettings(store, model=model, provider="cpu")).load()
        except ConfigError:  # it can't run this model
            continue
        if not graph.roots([node.name]) <= FILE_ROOTS:
            raise ConfigError(
                f"{model} is run by {node.name}, which takes texts: expected a model that looks at "
                "photos, since calibration and validation need what it is given"
            )
        return node
    raise ConfigError(
        f"no node of the graph can run {model!r}; expected one of "
        f"{', '.join(sorted({n.model for n in graph.values() if n.model}))}, or a --config whose "
        "graph has a node for it"
    )


def choose(folder: Path, limit: int) -> list[Path]:
    """List the photos of a folder and of those below it, evenly thinned out to ``limit``.

    Raises:
        ConfigError: there are none.

    """
    files = [Path(name) for name in find([folder]).in_folders]
    photos = [file for file in files if _is_photo(file)]
    if not photos:
        raise ConfigError(f"{folder}: expected a folder of photos, found none among its files")
    step = max(1.0, len(photos) / limit)
    return [photos[int(i * step)] for i in range(min(limit, len(photos)))]


def _is_photo(file: Path) -> bool:
    try:
        return detect(file).kind == "image"
    except OSError:  # it may not be read, or is gone
        return False


def prepare(
    files: Sequence[Path], graph: Graph, node: Node, store: ModelStore, done: Callable[[], None]
) -> Photos:
    """Run the graph on photos up to where a node's model would run.

    Args:
        files: the photos.
        graph: that the node belongs to.
        node: whose model is to be quantised.
        store: of models.
        done: called after each photo.

    Raises:
        ModelError: a model before it can't be used.
        ConfigError: too few photos give the model something to do.

    """
    before = {name: _loaded(graph[name], store) for name in graph.subgraph([node.name])}
    works: list[Work] = []
    for file in files:
        try:
            work = _prepare_one(file, graph, node, before)
        except InputError:
            work = None
        if work is not None and len(work.units):
            works.append(work)
        done()
    if len(works) < MIN_PHOTOS:
        raise ConfigError(
            f"{len(works)} of {len(files)} photos give {node.name} something to do; expected at "
            f"least {MIN_PHOTOS}, and better a hundred, such as those that it will be used on"
        )
    return Photos(tuple(works), len(files) - len(works))


def _loaded(node: Node, store: ModelStore) -> Capability[Any, Any]:
    capability = node.capability(NodeSettings(store, model=node.model, provider="cpu"))
    capability.load()
    return capability


def _prepare_one(
    file: Path, graph: Graph, node: Node, before: dict[str, Capability[Any, Any]]
) -> Work | None:
    """Return the work of one photo. Raises ``InputError`` on one that can't be read."""
    roots = Roots(Upload(Media(file.read_bytes(), file.name)), AllowedFolders(), DEFAULT_MAX_PIXELS)
    try:
        results: dict[str, Any] = {}
        for name, capability in before.items():
            sources = graph[name].sources
            inputs = tuple(roots.get(s) if s in ROOTS else results[s] for s in sources)
            if name == node.name:
                return capability.prepare(inputs, capability.sample_params())
            (results[name],) = capability.run_batch([(inputs, capability.sample_params())])
    finally:
        roots.close()
    return None


class Jury:
    """Compares graphs with float32 on some photos, by what the capability makes of them.

    Attributes:
        rows: what the model is given for these photos, each without the batch, float32.

    """

    def __init__(self, node: Node, store: ModelStore, model: str, works: Sequence[Work]) -> None:
        """Run the photos through the float32 graph.

        Raises:
            ModelError: the model can't be used.
            ConfigError: it gives neither embeddings nor faces, which is all that can be compared;
                or there is no face in any photo, or its capability does not open it through its
                settings.

        """
        contract = store.catalogue[model].contract
        self._detects = issubclass(node.capability.result, DetectedFaces)
        if not self._detects and not (contract and contract.embedding_dim):
            raise ConfigError(
                f"{model}: expected a model that gives embeddings or faces: how far another graph "
                "agrees is only defined for these"
            )
        self._node = node
        self._works = works
        # Its results are judged, not its speed: all cores may help.
        cores = len(os.sched_getaffinity(0))
        self._settings = TrialSettings(store, model=model, num_threads=cores)
        self._expected, self.rows = self._run(None)
        if not self.rows:
            raise ConfigError(
                f"{node.capability.name} opens its model by itself: expected one whose load calls "
                "self.settings.open_session, so that other graphs can be tried in it"
            )
        if self._detects and not any(found.faces for found in self._expected):
            raise ConfigError(
                "no face was found in the photos held out for validation; expected photos of people"
            )

    def judge(self, file: Path) -> tuple[Measure, ...]:
        """Tell how far a graph agrees with float32."""
        found, _ = self._run(file)
        if self._detects:
            return detection_agreement(self._expected, found)
        return cosine_agreement(np.stack(self._expected), np.stack(found))

    def _run(self, file: Path | None) -> tuple[list[Any], list[Any]]:
        """Run a graph, None for float32.

        Returns:
            Of detectors the results, of others the embeddings; and the rows that the graph was
            given.

        """
        settings = replace(self._settings, file=file, seen=[])
        capability = self._node.capability(settings)
        capability.load()
        settings.seen.clear()  # of warming up
        runs = [(work, list(capability.infer(work.units))) for work in self._works]
        if self._detects:
            return [capability.finish(work, parts) for work, parts in runs], settings.seen
        return [part for _, parts in runs for part in parts], settings.seen
