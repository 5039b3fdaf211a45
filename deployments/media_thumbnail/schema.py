"""Parameters and result of thumbnails."""

from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from deployments.runtime.capability import Params
from deployments.runtime.types import EncodedFile

Fit = Literal["contain", "cover", "fill"]
Format = Literal["jpeg", "webp", "avif"]

DEFAULT_SIDE_PX = 512
"""The box when neither side is given: sharp at 256 pixels on a screen of double density."""

MAX_SIDE_PX = 4096
"""As wide as a 4K screen. What is larger is a conversion, not a thumbnail."""


class MediaThumbnailParams(Params):
    """What one request may ask for."""

    width: int | None = Field(
        default=None,
        ge=1,
        le=MAX_SIDE_PX,
        description=(
            f"Pixels. With one side given, the other follows; with none, both are "
            f"{DEFAULT_SIDE_PX}."
        ),
    )
    height: int | None = Field(default=None, ge=1, le=MAX_SIDE_PX, description="Pixels; see width.")
    fit: Fit = Field(
        default="contain",
        description=(
            "How it fits into width x height: contain keeps everything and the proportions, "
            "cover cuts the edges off evenly, fill distorts. Only fill ever enlarges."
        ),
    )
    format: Format = Field(default="jpeg", description="File format of the thumbnail.")
    quality: int | None = Field(
        default=None,
        ge=1,
        le=100,
        description="1 to 100; by default 80 for jpeg and webp, and 60 for avif, which look alike.",
    )
    timestamp_s: float | None = Field(
        default=None,
        ge=0,
        allow_inf_nan=False,
        description=(
            "Of a video, the frame shown at so many seconds; by default the first key frame "
            "that is not black."
        ),
    )


@dataclass(frozen=True, slots=True)
class Thumbnail(EncodedFile):
    """A thumbnail as a file, with its size in pixels."""

    width: int
    height: int
