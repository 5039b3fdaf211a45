"""Parameters and result of image conversion."""

from dataclasses import dataclass
from typing import Literal, Self

from PIL import ImageColor
from pydantic import Field, field_validator, model_validator

from deployments.runtime.capability import Params
from deployments.runtime.types import EncodedFile

Format = Literal["png", "jpg", "jpeg", "webp", "gif", "bmp", "tiff", "avif", "heic"]

_LOSSY_ONLY = frozenset({"jpg", "jpeg", "avif", "heic"})
_CHANNELS = 3


class ImageConversionParams(Params):
    """What one request may ask for."""

    format: Format = Field(description="What to convert to; `jpeg` is `jpg`.")
    quality: int = Field(
        default=85,
        ge=1,
        le=100,
        description="1 to 100, for jpg, webp, avif and heic; the others lose nothing.",
    )
    lossless: bool = Field(
        default=False, description="Lose nothing; of the lossy formats webp can."
    )
    background: str = Field(
        default="white",
        description=(
            "What shows through transparent parts where the format has none: `#rrggbb` or a "
            "CSS name."
        ),
    )
    metadata: Literal["keep", "strip"] = Field(
        default="keep",
        description="EXIF and XMP: camera, time, place, title.",
    )

    @property
    def background_rgb(self) -> tuple[int, int, int]:
        """The background as red, green and blue, 0 to 255."""
        red, green, blue = ImageColor.getrgb(self.background)[:_CHANNELS]
        return red, green, blue

    @field_validator("background")
    @classmethod
    def _is_opaque_colour(cls, value: str) -> str:
        try:
            channels = len(ImageColor.getrgb(value))
        except ValueError:
            channels = 0
        if channels != _CHANNELS:
            raise ValueError(
                f"expected an opaque colour such as #ff8800 or a CSS name, got {value!r}"
            )
        return value

    @model_validator(mode="after")
    def _can_be_lossless(self) -> Self:
        if self.lossless and self.format in _LOSSY_ONLY:
            raise ValueError(
                f"lossless: {self.format} is written with losses only; webp, png and tiff can do"
            )
        return self


@dataclass(frozen=True, slots=True)
class ConvertedImage(EncodedFile):
    """The converted picture.

    ``width`` and ``height`` are in pixels, as a person sees it and as it is stored.
    ``frame_count`` is the number of frames of an animation, 1 for a still picture.
    """

    width: int
    height: int
    frame_count: int
