"""CLIP similarity from a picture and texts to scores, with stand-ins that know colours."""

import io
import json
from dataclasses import replace

import pytest
from PIL import Image
from pydantic import TypeAdapter, ValidationError

from deployments.clip_embedding import ClipEmbedding, ClipEmbeddingParams
from deployments.clip_similarity import (
    ClipSimilarity,
    ClipSimilarityParams,
    ClipSimilarityResult,
)
from deployments.clip_text_embedding import ClipTextEmbedding, ClipTextEmbeddingParams
from deployments.runtime.capability import NodeSettings
from deployments.runtime.embeddings import ImageEmbedding, TextEmbeddings
from deployments.runtime.errors import ConfigError
from deployments.runtime.models import ModelStore
from deployments.runtime.picture import Picture
from deployments.runtime.types import Media, Texts
from tests.stand_ins import CLIP_IMAGE, CLIP_TEXT, COLOURS


class Clip:
    """The three CLIP capabilities, called one after another."""

    def __init__(self, store: ModelStore) -> None:
        """Load the stand-ins."""
        self.image = ClipEmbedding(NodeSettings(store, model=CLIP_IMAGE, provider="cpu"))
        self.text = ClipTextEmbedding(NodeSettings(store, model=CLIP_TEXT, provider="cpu"))
        self.similarity = ClipSimilarity(NodeSettings(store))
        for capability in (self.image, self.text, self.similarity):
            capability.load()

    def embed(
        self, colour: tuple[int, int, int], *texts: str, normalize: bool = True
    ) -> tuple[ImageEmbedding, TextEmbeddings]:
        """Embed a picture of one colour, and texts."""
        buffer = io.BytesIO()
        Image.new("RGB", (320, 200), colour).save(buffer, format="PNG")
        picture = Picture(Media(buffer.getvalue()))
        image_params = ClipEmbeddingParams(normalize=normalize)
        text_params = ClipTextEmbeddingParams(normalize=normalize)
        return (
            self.image.run_batch([((picture,), image_params)])[0],
            self.text.run_batch([((Texts(texts),), text_params)])[0],
        )

    def score(self, inputs: tuple[ImageEmbedding, TextEmbeddings]) -> ClipSimilarityResult:
        """Compare a picture with texts."""
        return self.similarity.run_batch([(inputs, ClipSimilarityParams())])[0]


@pytest.fixture(scope="module")
def clip(stand_ins: ModelStore) -> Clip:
    """Load the capabilities with the stand-ins."""
    return Clip(stand_ins)


@pytest.mark.parametrize("name", COLOURS)
def test_colours(clip: Clip, name: str) -> None:
    """The text with the name of a picture's colour scores highest, in its place of the request."""
    texts = [f"a {colour} wall" for colour in COLOURS]
    result = clip.score(clip.embed(COLOURS[name], *texts))
    assert texts == [score.text for score in result.texts]
    best = max(result.texts, key=lambda score: score.probability)
    assert f"a {name} wall" == best.text
    assert best.cosine > 0.8
    assert best.probability > 0.9
    assert sum(score.probability for score in result.texts) == pytest.approx(1)
    assert (CLIP_IMAGE, CLIP_TEXT) == (result.image_model, result.text_model)


def test_one_text(clip: Clip) -> None:
    """A single text has the whole probability, and its cosine does not depend on others."""
    alone, *_ = clip.score(clip.embed(COLOURS["red"], "a red wall")).texts
    together, *_ = clip.score(clip.embed(COLOURS["red"], "a red wall", "a cat")).texts
    assert 1.0 == alone.probability
    assert alone.cosine == together.cosine


def test_lengths_do_not_matter(clip: Clip) -> None:
    """Embeddings that were not normalised score the same."""
    texts = ("green", "blue")
    expected = clip.score(clip.embed(COLOURS["blue"], *texts)).texts
    got = clip.score(clip.embed(COLOURS["blue"], *texts, normalize=False)).texts
    for one, other in zip(got, expected, strict=True):
        assert other.cosine == pytest.approx(one.cosine, abs=1e-6)


@pytest.mark.parametrize("spaces", [("a", "b"), ("", ""), ("a", "")])
def test_different_spaces(clip: Clip, spaces: tuple[str, str]) -> None:
    """Embeddings of models that do not share a space are refused, both models by name."""
    image, texts = clip.embed(COLOURS["red"], "red")
    wrong = (replace(image, space=spaces[0]), replace(texts, space=spaces[1]))
    with pytest.raises(ConfigError, match=f"'{CLIP_IMAGE}' can't be compared .* '{CLIP_TEXT}'"):
        clip.score(wrong)


def test_batch_equals_singles(clip: Clip) -> None:
    """Several requests at once give what each gives alone."""
    requests = [
        (clip.embed(COLOURS[name], "red", "blue"), ClipSimilarityParams()) for name in COLOURS
    ]
    singles = [clip.similarity.run_batch([request])[0] for request in requests]
    assert singles == clip.similarity.run_batch(requests)


def test_wire(clip: Clip) -> None:
    """A result goes to JSON and back."""
    adapter = TypeAdapter(ClipSimilarityResult)
    result = clip.score(clip.embed(COLOURS["white"], "white", "black"))
    wire = adapter.dump_json(result)
    assert {"text", "cosine", "probability"} == set(json.loads(wire)["texts"][0])
    assert result == adapter.validate_json(wire)


def test_sample(clip: Clip) -> None:
    """The self-test's input says that the first text is right."""
    result = clip.score(clip.similarity.sample())
    assert [1.0, 0.0] == pytest.approx([score.probability for score in result.texts])
    assert [1.0, 0.0] == [score.cosine for score in result.texts]


def test_no_parameters() -> None:
    """There are none, and an unknown one is refused."""
    with pytest.raises(ValidationError):
        ClipSimilarityParams.model_validate({"x": 1})
