"""Parameters of the CLIP text embedding; its result, ``TextEmbeddings``, is in the runtime."""

from pydantic import Field

from deployments.runtime.capability import Params


class ClipTextEmbeddingParams(Params):
    """What one request may ask for."""

    normalize: bool = Field(
        default=True,
        description="Scale the embeddings to length 1, so that dot products are cosines.",
    )
    truncate: bool = Field(
        default=False,
        description="Cut a text that has more tokens than the model takes, instead of refusing it.",
    )
