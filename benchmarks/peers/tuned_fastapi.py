"""A second peer, for information: the plain service with all of our own computing code.

One uvicorn process, a sync endpoint in a pool of two threads, Pillow's full decode, ONNX Runtime
sessions of one thread each. It is given everything that does not set the two services apart: the
same detection, alignment and embedding code, the same session settings and the same serialiser.
What it lacks is decoding at the scale that is needed, batching, and more than one process. So it
shows what serving alone costs, where the plain peer shows what one gets without this project.

The capability classes take a ``Picture``, whose ``rgb`` may return more pixels than asked for;
``FullPicture`` always returns all of them, which is what a full decode is.

It takes the graph's file in place of two models: ``--port 8001 --config config/serve.yaml``.
"""

import argparse
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

import anyio.to_thread
import uvicorn
from fastapi import Depends, FastAPI, Request, Response
from PIL import Image, ImageOps
from pydantic import TypeAdapter

from benchmarks.layouts import DEFAULT_CONFIG, GraphFile
from benchmarks.subjects.bare import FacePipeline
from deployments.face_embedding import FaceEmbedding
from deployments.runtime.picture import Picture
from deployments.runtime.types import Media

THREADS = 2
"""More threads than cores only take turns; two also hide the parts that hold the interpreter."""


class FullPicture(Picture):
    """A picture that is always decoded in full, in the three lines that everybody writes."""

    def __init__(self, media: Media) -> None:
        """Decode all pixels, upright and in RGB."""
        super().__init__(media)
        with Image.open(io.BytesIO(media.data)) as stored:
            self._full = ImageOps.exif_transpose(stored.convert("RGB"))

    def rgb(self, long_side_px: int | None = None) -> Image.Image:
        """Return all pixels, however few are asked for."""
        del long_side_px
        return self._full


def build_app(config: Path) -> FastAPI:
    """Build the service with the models of a YAML file of the graph."""
    pipeline = FacePipeline(GraphFile(config))
    answer = TypeAdapter(FaceEmbedding.result)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
        yield

    app = FastAPI(lifespan=lifespan)

    async def body(request: Request) -> bytes:
        return await request.body()

    @app.post("/v1/face_embedding")
    def face_embedding(photo: Annotated[bytes, Depends(body)]) -> Response:
        result = pipeline.run(FullPicture(Media(photo)))
        return Response(answer.dump_json(result), media_type="application/json")

    return app


def main() -> None:
    """Serve until ended."""
    parser = argparse.ArgumentParser(
        description="A FastAPI service with this project's computing code."
    )
    parser.add_argument("--port", type=int, default=8001)
    parser.add_argument("--config", type=Path, default=DEFAULT_CONFIG)
    arguments = parser.parse_args()
    uvicorn.run(
        build_app(arguments.config),
        host="127.0.0.1",
        port=arguments.port,
        access_log=False,
        log_level="warning",
    )


if __name__ == "__main__":
    main()
