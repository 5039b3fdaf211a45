"""Models for a machine that lacks them: from the head of the cluster, over Ray.

A replica asks the store of its machine for a model, and a store that lacks it asks here. The head
streams its copy through the cluster's own connections, which ask for the cluster's secret, so no
port is opened for it and a node needs no internet. What arrives is checked against the catalogue's
sha256 like every other installation. Where the head has no copy either, the publisher is asked,
unless the licence needs somebody's consent or the network is switched off.

The work is done in a Ray task beside the replica: a conversion takes memory that a replica would
keep, and several replicas of a machine wait for the same transfer.
"""

import logging
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray
from filelock import FileLock
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from deployments.runtime.errors import ModelDownloadError, ModelError, ModelNotInstalledError
from deployments.runtime.models import ModelStore

logger = logging.getLogger("ray.serve")

CHUNK_BYTES = 4 * 2**20
CHUNKS_AHEAD = 4
"""How far the head reads ahead: 16 of the 256 MiB of the object store."""

HEAD = "node:__internal_head__"
"""A resource that Ray gives to the head alone."""


def fetch_from_cluster(store: ModelStore, name: str) -> None:
    """Install a model that this machine lacks, with what it needs; on the head, do nothing.

    Raises:
        ModelError: neither the head nor the publisher gave it; the message has both reasons.

    """
    if not ray.is_initialized() or _on_head():
        return
    logger.info("model %s is not on this machine; asking the head for it", name)
    began_s = time.monotonic()
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    try:
        result = ray.get(_install.options(scheduling_strategy=here).remote(store, name))
    except RayError as error:
        raise ModelDownloadError(f"the transfer of {name} was cut off: {error}") from error
    if isinstance(result, ModelError):
        logger.warning("model %s could not be installed: %s", name, result)
        raise result
    logger.info("model %s: %s, after %.1f s", name, result, time.monotonic() - began_s)


def _on_head() -> bool:
    here = ray.get_runtime_context().get_node_id()
    return any(node["NodeID"] == here and HEAD in node["Resources"] for node in ray.nodes())


@ray.remote(num_cpus=0)
def _install(store: ModelStore, name: str) -> str | ModelError:
    """Install a model on this machine; return what was done, or why nothing could be."""
    store.fetch = None
    runs = store.cache / "runs"
    lock = store.cache / "locks" / f"transfer-{name}.lock"
    try:
        for folder in (runs, lock.parent):
            folder.mkdir(parents=True, exist_ok=True)
        with FileLock(lock), tempfile.TemporaryDirectory(dir=runs) as scratch:
            return install(store, name, Path(scratch), _chunks_from_head(store, name))
    except OSError as error:
        return ModelDownloadError(f"{store.cache} can't be written: {error.strerror}")


def install(
    store: ModelStore,
    name: str,
    scratch: Path,
    chunks: Iterator[bytes | ModelError],
) -> str | ModelError:
    """Install a model from what the head sends, else from its publisher.

    Args:
        store: this machine's.
        name: the model's.
        scratch: a folder for what arrives.
        chunks: the head's answer: a tar file of ``ModelStore.export`` in pieces, or an error.

    Returns:
        What was done, or why nothing could be.

    """
    try:
        store.path(name)
    except ModelNotInstalledError:
        pass
    else:
        return "another process has just installed it"
    try:
        size_bytes = _receive(chunks, scratch / "models.tar")
        # Whoever installed it on the head agreed to its licence, for this service.
        store.import_(scratch / "models.tar", accept_licence=True)
    except ModelError as error:
        return _from_publisher(store, name, error)
    return f"installed from the head ({size_bytes / 1e6:.1f} MB)"


def export_chunks(store: ModelStore, name: str) -> Iterator[bytes | ModelError]:
    """On the head: give its copy of a model, and of what that needs, in pieces of a tar file."""
    store.fetch = None
    runs = store.cache / "runs"
    runs.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=runs) as scratch:
        file = Path(scratch) / "models.tar"
        try:
            store.export([name], file)
        except ModelError as error:
            yield error
            return
        with file.open("rb") as reader:
            while chunk := reader.read(CHUNK_BYTES):
                yield chunk


_export_on_head: Any = ray.remote(export_chunks).options(
    num_cpus=0,
    resources={HEAD: 0.001},
    _generator_backpressure_num_objects=CHUNKS_AHEAD,
)


def _chunks_from_head(store: ModelStore, name: str) -> Iterator[bytes | ModelError]:
    try:
        for chunk in _export_on_head.remote(store, name):
            yield ray.get(chunk)
    except RayError as error:
        yield ModelDownloadError(f"the head did not send {name}: {error}")


def _receive(chunks: Iterator[bytes | ModelError], file: Path) -> int:
    size_bytes = 0
    with file.open("wb") as writer:
        for chunk in chunks:
            if isinstance(chunk, ModelError):
                raise chunk
            size_bytes += writer.write(chunk)
    return size_bytes


def _from_publisher(store: ModelStore, name: str, reason: ModelError) -> str | ModelError:
    try:
        store.pull(name)
    except ModelError as error:
        return ModelDownloadError(f"not from the head: {reason}; not from its publisher: {error}")
    return f"fetched from its publisher, as the head could not give it ({reason})"
