"""Parameters of face alignment. The result is ``AlignedFaces`` of the runtime's types."""

from deployments.runtime.capability import Params


class FaceAlignmentParams(Params):
    """There is nothing to choose: the template is the one that the embedding models know."""
