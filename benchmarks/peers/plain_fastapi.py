"""What a competent developer writes in an afternoon: FastAPI and ONNX Runtime, defaults everywhere.

One uvicorn process and a sync endpoint, so FastAPI runs requests in its thread pool; each model is
an ``InferenceSession`` with ONNX Runtime's defaults.
"""

from pathlib import Path
from typing import Annotated, Any

import uvicorn
from fastapi import Depends, FastAPI, Request

from benchmarks.peers.faces import Faces, arguments, decode


def build_app(detector: Path, embedder: Path) -> FastAPI:
    """Build the service."""
    faces = Faces(detector, embedder)
    app = FastAPI()

    async def body(request: Request) -> bytes:
        return await request.body()

    @app.post("/v1/face_embedding")
    def face_embedding(photo: Annotated[bytes, Depends(body)]) -> dict[str, Any]:
        return faces.run([decode(photo)])[0]

    return app


def main() -> None:
    """Serve until ended."""
    given = arguments("A plain FastAPI service for face embeddings.")
    app = build_app(given.detector, given.embedder)
    uvicorn.run(app, host="127.0.0.1", port=given.port, access_log=False, log_level="warning")


if __name__ == "__main__":
    main()
