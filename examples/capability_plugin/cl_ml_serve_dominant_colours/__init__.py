"""Dominant colours: what a picture mostly consists of."""

from cl_ml_serve_dominant_colours.capability import DominantColours
from cl_ml_serve_dominant_colours.schema import (
    DominantColour,
    DominantColoursParams,
    DominantColoursResult,
)

__all__ = [
    "DominantColour",
    "DominantColours",
    "DominantColoursParams",
    "DominantColoursResult",
]
