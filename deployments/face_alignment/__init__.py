"""Face alignment: every face upright, at one size, in one place of its crop."""

from deployments.face_alignment.capability import FaceAlignment
from deployments.face_alignment.schema import FaceAlignmentParams
from deployments.runtime.types import AlignedFaces

__all__ = ["AlignedFaces", "FaceAlignment", "FaceAlignmentParams"]
