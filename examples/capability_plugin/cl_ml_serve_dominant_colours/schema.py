"""Parameters and result of dominant colours: the wire contract, for HTTP and handles alike."""

from dataclasses import dataclass

from pydantic import Field

from deployments.runtime.capability import Params

MAX_COLOURS = 16
"""More are no palette any more: neighbours can hardly be told apart."""


class DominantColoursParams(Params):
    """What one request may ask for."""

    limit: int = Field(
        default=5,
        ge=1,
        le=MAX_COLOURS,
        description="The most colours to return; a picture that has fewer gives fewer.",
    )


@dataclass(frozen=True, slots=True)
class DominantColour:
    """One colour: ``hex`` is sRGB as ``#rrggbb``, ``share`` its part of the picture, 0 to 1."""

    hex: str
    share: float


@dataclass(frozen=True, slots=True)
class DominantColoursResult:
    """The colours of one picture, largest share first; the shares add up to 1."""

    colours: tuple[DominantColour, ...]
