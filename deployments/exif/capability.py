"""The metadata capability: one unit per file, so one call of ExifTool reads those of many requests.

ExifTool does the reading because it knows the metadata of every camera; this turns what it finds
into one shape.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from deployments.exif.algo.metadata import to_metadata
from deployments.exif.program import ExifToolProgram, Read
from deployments.exif.schema import ExifMetadata, ExifParams
from deployments.runtime.asset import Asset
from deployments.runtime.capability import Capability, NodeSettings, Work
from deployments.runtime.errors import ClServeError, ToolFailedError, UnsupportedMediaError
from deployments.runtime.random_media import ExifFields, ImageGenerator


class Exif(Capability[ExifParams, ExifMetadata]):
    """Reads the metadata of photos and videos, and never writes to them."""

    name = "exif"
    summary = "Camera, time, place and all other metadata of a photo or video."
    inputs = (Asset,)
    params = ExifParams
    result = ExifMetadata
    own_threads = 2
    """One waits for ExifTool, the other prepares and finishes requests meanwhile."""

    def __init__(self, settings: NodeSettings) -> None:
        """Keep the settings; ``load`` starts ExifTool."""
        super().__init__(settings)
        self._program: ExifToolProgram | None = None

    def load(self) -> None:
        """Start ExifTool.

        Raises:
            ToolNotInstalledError: it is not on this machine.
            ToolFailedError: it does not run.

        """
        program = ExifToolProgram()
        program.start()
        self._program = program

    def close(self) -> None:
        """End ExifTool."""
        if self._program is not None:
            self._program.stop()

    def prepare(self, inputs: tuple[Asset], params: ExifParams) -> Work:
        """Check the kind of file; the unit is the path at which ExifTool finds it."""
        (asset,) = inputs
        if asset.media_type.kind not in {"image", "video"}:
            raise UnsupportedMediaError(
                f"{asset.name} looks like {asset.media_type.mime}; accepted are images and videos",
            )
        return Work([asset.path], (asset.name, asset.media_type, params.tags))

    def infer(self, units: Sequence[Path]) -> list[Read]:
        """Read files of any mix of requests in one call: the tags of each, or its error."""
        if self._program is None:
            raise ToolFailedError("ExifTool was not started")
        return self._program.read(units)

    def finish(self, work: Work, parts: Sequence[Read]) -> ExifMetadata:
        """Interpret the tags. Raises ``ToolFailedError`` where ExifTool failed on this file."""
        name, media_type, tags = work.state
        (part,) = parts
        if isinstance(part, ClServeError):
            raise type(part)(f"{name}: {part}")
        return to_metadata(part, media_type, tags)

    def sample(self) -> tuple[Asset]:
        """Return a small made-up photo with some metadata."""
        fields = ExifFields(taken_at=datetime(2024, 5, 1, 10, 20, 30, tzinfo=UTC), make="Sample")
        return (Asset(ImageGenerator(size=(64, 48), exif=fields).media()),)
