"""The files that results refer to, such as the playlists and segments of an HLS stream."""

import asyncio

from fastapi import APIRouter
from starlette.responses import FileResponse, Response

from deployments.runtime.folders import OutputStore
from deployments.runtime.media_type import mime_of_name

MEDIA_TYPES = {
    ".m3u8": "application/vnd.apple.mpegurl",  # RFC 8216, section 4
    ".m4s": "video/iso.segment",  # registered with ISO/IEC 23000-19
    ".ts": "video/mp2t",
}
"""What the table of file names lacks, or has for something else."""


class OutputRoutes:
    """``/v1/outputs/<output_id>/<file>``: read with range requests, and removed when done with."""

    def __init__(self, outputs: OutputStore) -> None:
        """Make the routes; ``router`` holds them."""
        self._outputs = outputs
        self.router = APIRouter(prefix="/v1/outputs")
        add = self.router.add_api_route
        for method in ("GET", "HEAD"):
            add(
                "/{output_id}/{name:path}",
                self.read,
                methods=[method],
                operation_id="read_output",
                include_in_schema=method == "GET",
                response_class=FileResponse,
                summary="A file of a result, whole or in part (range requests).",
            )
        add(
            "/{output_id}",
            self.remove,
            methods=["DELETE"],
            operation_id="remove_output",
            status_code=204,
            response_class=Response,
            summary="Remove a result's files before their time.",
        )

    async def read(self, output_id: str, name: str) -> FileResponse:
        """Answer with a file. Raises ``PathNotFoundError``."""
        path = await asyncio.to_thread(self._outputs.file, output_id, name)
        media_type = MEDIA_TYPES.get(path.suffix) or mime_of_name(path.name)
        return FileResponse(path, media_type=media_type)

    async def remove(self, output_id: str) -> Response:
        """Remove a folder. Raises ``PathNotFoundError``."""
        await asyncio.to_thread(self._outputs.remove, output_id)
        return Response(status_code=204)
