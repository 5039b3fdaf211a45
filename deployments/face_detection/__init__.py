"""Face detection: where the faces of a photo are."""

from deployments.face_detection.capability import FaceDetection
from deployments.face_detection.schema import FaceDetectionParams
from deployments.runtime.types import DetectedFaces

__all__ = ["DetectedFaces", "FaceDetection", "FaceDetectionParams"]
