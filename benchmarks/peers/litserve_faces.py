"""LitServe, as its documentation has it: a LitAPI with batching on, and a worker for each core.

Photos come as base64 in JSON, the form of its examples: an uploaded file of more than a megabyte
does not cross to LitServe's workers (it can't be pickled). Each worker's sessions have one thread,
as there are as many workers as cores.
"""

import base64
import os
from collections.abc import Sequence
from pathlib import Path

import litserve  # pyright: ignore[reportMissingImports] - in .venv-peers
from PIL import Image

from benchmarks.peers.faces import Answer, Faces, arguments, decode

MAX_BATCH_SIZE = 8
BATCH_TIMEOUT_S = 0.01
"""As in LitServe's page on batching, where it is a tenth of a model's time."""


class FaceApi(litserve.LitAPI):
    """Faces and embeddings of photos."""

    def __init__(self, detector: Path, embedder: Path) -> None:
        """Keep the paths; workers load the models."""
        super().__init__(
            max_batch_size=MAX_BATCH_SIZE,
            batch_timeout=BATCH_TIMEOUT_S,
            api_path="/v1/face_embedding",
        )
        self._paths = (detector, embedder)

    def setup(self, device: str) -> None:
        """Load the models, in a worker."""
        del device
        self._faces = Faces(*self._paths, threads=1)

    def decode_request(self, request: dict[str, str]) -> Image.Image:
        """Decode one photo."""
        return decode(base64.b64decode(request["image"]))

    def batch(self, inputs: Sequence[Image.Image]) -> Sequence[Image.Image]:
        """Leave pictures of different sizes as they are; the default makes one array of them."""
        return inputs

    def predict(self, x: Sequence[Image.Image]) -> list[Answer]:
        """Compute the answers of a batch."""
        return self._faces.run(x)

    def encode_response(self, output: Answer) -> Answer:
        """Send an answer as JSON."""
        return output


def main() -> None:
    """Serve until ended."""
    given = arguments("A LitServe service for face embeddings.")
    server = litserve.LitServer(
        FaceApi(given.detector, given.embedder),
        accelerator="cpu",
        workers_per_device=len(os.sched_getaffinity(0)),
    )
    server.run(host="127.0.0.1", port=given.port, generate_client_file=False, log_level="warning")


if __name__ == "__main__":
    main()
