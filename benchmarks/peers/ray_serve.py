"""Ray Serve with its defaults: one deployment per model, chained by handles, ``serve.run``.

Two options are set: the port, as another service may have the usual one, and a number of CPUs. By
default each replica books one, so that three of them do not start on a machine of two cores; Ray is
told of three there, which is bookkeeping and starts no more threads. What a deployment sends to
the next one is plain data: a decoded photo stays where it was decoded, and crops go on.
"""

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray
from ray import serve
from ray.serve import Deployment
from ray.serve.handle import DeploymentHandle
from starlette.requests import Request
from starlette.responses import JSONResponse

from benchmarks.peers.faces import (
    Detection,
    Detector,
    Embedder,
    align,
    answer,
    arguments,
    decode,
)

REPLICAS = 3

Found = tuple[tuple[int, int], list[Detection], list[NDArray[np.uint8]]]
"""Of one photo: its size, its faces, and their aligned crops."""


class FaceFinder:
    """Decodes a photo, finds faces and cuts them out."""

    def __init__(self, path: Path) -> None:
        """Load the model."""
        self._detector = Detector(path)

    def __call__(self, photo: bytes) -> Found:
        """Find the faces of a photo."""
        image = decode(photo)
        faces = self._detector.detect([image])[0]
        return image.size, faces, [align(image, box, points) for _, box, points in faces]


class Embedding:
    """Embeds crops."""

    def __init__(self, path: Path) -> None:
        """Load the model."""
        self._embedder = Embedder(path)

    def __call__(self, crops: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Embed the crops of one photo."""
        return self._embedder.embed(crops)


class Ingress:
    """Takes photos over HTTP and asks one deployment after the other."""

    def __init__(self, detection: DeploymentHandle[Any], embedding: DeploymentHandle[Any]) -> None:
        """Keep the handles."""
        self._detection = detection
        self._embedding = embedding

    async def __call__(self, request: Request) -> JSONResponse:
        """Answer one request; GET tells that there is somebody to answer."""
        if request.method == "GET":
            return JSONResponse(answer((1, 1), [], []))
        size, faces, crops = await self._detection.remote(await request.body())
        embeddings = await self._embedding.remote(crops) if crops else ()
        return JSONResponse(answer(size, faces, embeddings))


def main() -> None:
    """Serve until ended."""
    given = arguments("A Ray Serve application for face embeddings.")
    ray.init(address="local", num_cpus=max(REPLICAS, len(os.sched_getaffinity(0))))
    serve.start(http_options={"port": given.port})
    detection = _deployment(FaceFinder).bind(given.detector)
    embedding = _deployment(Embedding).bind(given.embedder)
    ingress = _deployment(Ingress).bind(detection, embedding)
    serve.run(ingress, route_prefix="/v1/face_embedding")
    threading.Event().wait()


def _deployment(cls: type[Any]) -> Deployment:
    """Make a deployment with default options, as ``@serve.deployment`` above a class does."""
    return serve.deployment(cls)  # pyright: ignore[reportReturnType] - its overloads are untyped


if __name__ == "__main__":
    main()
