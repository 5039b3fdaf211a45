"""BentoML, as its documentation has it: a batchable API with adaptive batching, a worker per core.

Photos come as ``multipart/form-data``, BentoML's form for files. Each worker's sessions have one
thread, as there are as many workers as cores. Which files to load is in the environment, since
``bentoml serve`` imports the service by its name.
"""

import os
import sys
from pathlib import Path

import bentoml  # pyright: ignore[reportMissingImports] - in .venv-peers
from PIL import Image, ImageOps

from benchmarks.peers.faces import Answer, Faces, arguments

MAX_BATCH_SIZE = 16
MAX_LATENCY_MS = 60_000
"""Beyond every latency here: BentoML refuses what it expects to take longer, from what it has seen,
and its default could be too little for 64 clients."""

DETECTOR, EMBEDDER = "BENCH_DETECTOR", "BENCH_EMBEDDER"


@bentoml.service(
    workers="cpu_count",
    traffic={"timeout": 60},
    logging={"access": {"enabled": False}},  # as for all others: a line per request costs
)
class BentoFaces:
    """Faces and embeddings of photos."""

    def __init__(self) -> None:
        """Load the models, in a worker."""
        self._faces = Faces(Path(os.environ[DETECTOR]), Path(os.environ[EMBEDDER]), threads=1)

    @bentoml.api(
        route="/v1/face_embedding",
        batchable=True,
        max_batch_size=MAX_BATCH_SIZE,
        max_latency_ms=MAX_LATENCY_MS,
    )
    def face_embedding(self, images: list[Image.Image]) -> list[Answer]:
        """Compute the answers of a batch, which holds the pictures of several requests."""
        return self._faces.run([ImageOps.exif_transpose(image).convert("RGB") for image in images])


def main() -> None:
    """Become ``bentoml serve``, which serves until ended."""
    given = arguments("A BentoML service for face embeddings.")
    os.environ |= {DETECTOR: str(given.detector), EMBEDDER: str(given.embedder)}
    os.environ["BENTOML_DO_NOT_TRACK"] = "True"
    service = "benchmarks.peers.bentoml_faces:BentoFaces"
    command = ["bentoml", "serve", service, "--host=127.0.0.1", f"--port={given.port}"]
    os.execv(sys.executable, [sys.executable, "-m", *command])  # noqa: S606 - no shell is meant


if __name__ == "__main__":
    main()
