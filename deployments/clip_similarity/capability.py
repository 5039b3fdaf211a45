"""The CLIP similarity capability: compares a picture's embedding with those of texts; no model."""

from collections.abc import Sequence

import numpy as np

from deployments.clip_similarity.algo.scores import cosines, probabilities
from deployments.clip_similarity.schema import (
    ClipSimilarityParams,
    ClipSimilarityResult,
    TextScore,
)
from deployments.runtime.capability import Capability, Work
from deployments.runtime.embeddings import ImageEmbedding, TextEmbedding, TextEmbeddings
from deployments.runtime.errors import ConfigError


class ClipSimilarity(Capability[ClipSimilarityParams, ClipSimilarityResult]):
    """Scores texts against a picture."""

    name = "clip_similarity"
    summary = "How well each of some texts describes a picture (MobileCLIP)."
    inputs = (ImageEmbedding, TextEmbeddings)
    params = ClipSimilarityParams
    result = ClipSimilarityResult

    def prepare(
        self, inputs: tuple[ImageEmbedding, TextEmbeddings], params: ClipSimilarityParams
    ) -> Work:
        """Check that the embeddings can be compared; there are no units.

        Raises:
            ConfigError: they are of different spaces, or of one that the catalogue does not name.

        """
        del params
        image, texts = inputs
        if not image.space or image.space != texts.space:
            raise ConfigError(
                f"{self.name}: embeddings of {image.model!r} can't be compared with those of "
                f"{texts.model!r}: expected models whose contracts name one embedding_space in "
                f"the catalogue, got {image.space!r} and {texts.space!r}"
            )
        return Work([], (image, texts))

    def finish(self, work: Work, parts: Sequence[object]) -> ClipSimilarityResult:
        """Compute cosine and probability of every text."""
        del parts
        image, texts = work.state
        cosine = cosines(image.embedding, np.stack([text.embedding for text in texts.texts]))
        return ClipSimilarityResult(
            texts=tuple(
                TextScore(text.text, float(value), float(share))
                for text, value, share in zip(
                    texts.texts, cosine, probabilities(cosine), strict=True
                )
            ),
            image_model=image.model,
            text_model=texts.model,
        )

    def sample(self) -> tuple[ImageEmbedding, TextEmbeddings]:
        """Return made-up embeddings of two numbers; one text is right and one is wrong."""
        picture, other = np.array([1, 0], np.float32), np.array([0, 1], np.float32)
        texts = (TextEmbedding("one", 3, False, picture), TextEmbedding("other", 3, False, other))  # noqa: FBT003 - fields
        facts = (2, "sample", "sample", True)
        return ImageEmbedding(picture, *facts), TextEmbeddings(texts, *facts)
