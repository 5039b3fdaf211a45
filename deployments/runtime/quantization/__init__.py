"""Makes smaller and faster variants of a model's graph, and measures what they lose and gain.

Nothing here knows what a model is for: it is given the rows that the model takes, and a judge
that tells how far a variant agrees with float32. Imported by ``cl-serve quantize`` alone.
"""

from deployments.runtime.quantization._agreement import (
    cosine_agreement,
    detection_agreement,
)
from deployments.runtime.quantization._making import Candidate, Making, best, make
from deployments.runtime.quantization._processor import Processor, this_processor
from deployments.runtime.quantization._speed import speed_ratio
from deployments.runtime.quantization._trial import TrialSettings

__all__ = [
    "Candidate",
    "Making",
    "Processor",
    "TrialSettings",
    "best",
    "cosine_agreement",
    "detection_agreement",
    "make",
    "speed_ratio",
    "this_processor",
]
