"""Parameters of face detection. The result is ``DetectedFaces`` of the runtime's types."""

from typing import Literal

from pydantic import Field

from deployments.runtime.capability import Params

Effort = Literal["fast", "standard", "thorough"]
"""How many views of a picture the detector looks at; the README has what each of them finds."""


class FaceDetectionParams(Params):
    """What one request may ask for."""

    confidence_threshold: float = Field(
        default=0.6,
        ge=0.0,
        le=1.0,
        description="Lowest confidence of a face. The default is MediaPipe's for this model.",
    )
    nms_threshold: float = Field(
        default=0.3,
        ge=0.0,
        le=1.0,
        description="Of two boxes whose intersection over union is larger, the better one stays.",
    )
    min_face_size: float = Field(
        default=0.0,
        ge=0.0,
        description="Shortest longer side of a face's box, in pixels of the original picture.",
    )
    limit: int = Field(
        default=100,
        ge=1,
        le=1000,
        description="The most faces to return; the most confident ones stay.",
    )
    effort: Effort = Field(
        default="standard",
        description=(
            "How hard to look: 'fast' finds faces from about a tenth of the picture's long side, "
            "'standard' also those that fill the frame or are cut by its edge, 'thorough' from a "
            "thirtieth. Costs 1, 2 and up to 24 runs of the model."
        ),
    )
    cropped: bool = Field(
        default=False,
        description=(
            "The picture is a crop of one face: return exactly one face, the most confident, or "
            "the whole picture without landmarks and with confidence 0 where none is found. "
            "Effort, limit and min_face_size do not apply."
        ),
    )
