"""Result of the CLIP similarity; there is nothing to ask for but the picture and the texts."""

from dataclasses import dataclass

from deployments.runtime.capability import Params


class ClipSimilarityParams(Params):
    """No parameters."""


@dataclass(frozen=True, slots=True)
class TextScore:
    """How well one text describes the picture.

    ``cosine`` is that of the angle between both embeddings, -1 to 1, and does not depend on the
    other texts. ``probability`` is the text's share among the texts of the request: all of them
    add up to 1.
    """

    text: str
    cosine: float
    probability: float


@dataclass(frozen=True, slots=True)
class ClipSimilarityResult:
    """The texts of one request, in their order, and the models that compared them."""

    texts: tuple[TextScore, ...]
    image_model: str
    text_model: str
