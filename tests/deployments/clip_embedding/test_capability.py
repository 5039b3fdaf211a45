"""CLIP embedding of pictures, with a stand-in that knows colours."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import TypeAdapter, ValidationError

from deployments.clip_embedding import ClipEmbedding, ClipEmbeddingParams, ImageEmbedding
from deployments.runtime.capability import NodeSettings
from deployments.runtime.errors import (
    ConfigError,
    CorruptMediaError,
    EmptyInputError,
    ModelNotInstalledError,
    UnsupportedMediaError,
)
from deployments.runtime.models import ModelStore, load_catalogue
from deployments.runtime.picture import Picture
from deployments.runtime.random_media import ImageGenerator
from deployments.runtime.types import Media
from serve_app.settings import DEFAULT_CATALOGUE
from tests.stand_ins import CLIP_IMAGE, CLIP_TEXT, COLOURS, DINO

Photo = Callable[[str], Media]

PHOTOS = ("obama", "biden", "chelsea", "coffee")


@pytest.fixture(scope="module")
def clip(stand_ins: ModelStore) -> ClipEmbedding:
    """Load the capability with the stand-in."""
    capability = ClipEmbedding(NodeSettings(stand_ins, model=CLIP_IMAGE, provider="cpu"))
    capability.load()
    return capability


def embed(clip: ClipEmbedding, media: Media, *, normalize: bool = True) -> ImageEmbedding:
    """Embed one picture."""
    return clip.run_batch([((Picture(media),), ClipEmbeddingParams(normalize=normalize))])[0]


def plain(colour: tuple[int, int, int]) -> Media:
    """Encode a picture of one colour."""
    buffer = io.BytesIO()
    Image.new("RGB", (300, 200), colour).save(buffer, format="PNG")
    return Media(buffer.getvalue())


def test_result(clip: ClipEmbedding, photo: Photo) -> None:
    """A result has 512 numbers of length 1, and says its model and what it can be compared with."""
    result = embed(clip, photo("biden"))
    assert (512, CLIP_IMAGE, "mobileclip_s0_stand_in", True) == (
        result.embedding_dim,
        result.model,
        result.space,
        result.normalized,
    )
    assert ((512,), np.float32) == (result.embedding.shape, result.embedding.dtype)
    assert np.linalg.norm(result.embedding) == pytest.approx(1, abs=1e-6)


def test_not_normalized(clip: ClipEmbedding, photo: Photo) -> None:
    """Without normalisation the direction is the same and the length the model's."""
    unit, raw = embed(clip, photo("biden")), embed(clip, photo("biden"), normalize=False)
    length = np.linalg.norm(raw.embedding)
    assert not raw.normalized
    assert length != pytest.approx(1, abs=0.01)
    np.testing.assert_allclose(unit.embedding, raw.embedding / length, atol=1e-6)


def test_colours(clip: ClipEmbedding) -> None:
    """Red, green and blue pictures are told apart: channels and scaling arrive in order."""
    found = {name: embed(clip, plain(colour)).embedding for name, colour in COLOURS.items()}
    for name, colour in COLOURS.items():
        red, green, blue = (round(20 + value * 0.8) for value in colour)
        again = embed(clip, plain((red, green, blue))).embedding
        assert name == max(found, key=lambda other: float(again @ found[other]))


def test_batch_equals_singles(clip: ClipEmbedding, photo: Photo) -> None:
    """Several pictures in one batch give what each gives alone, twice the same."""
    requests = [((Picture(photo(name)),), ClipEmbeddingParams()) for name in PHOTOS]
    singles = [clip.run_batch([request])[0] for request in requests]
    for _ in range(2):
        for got, expected in zip(clip.run_batch(requests), singles, strict=True):
            np.testing.assert_array_equal(got.embedding, expected.embedding)


def test_wire(clip: ClipEmbedding, photo: Photo) -> None:
    """A result goes to JSON and back; the embedding is a list of numbers there."""
    adapter = TypeAdapter(ImageEmbedding)
    result = embed(clip, photo("obama"))
    wire = adapter.dump_json(result)
    assert 512 == len(json.loads(wire)["embedding"])
    back = adapter.validate_json(wire)
    np.testing.assert_allclose(back.embedding, result.embedding, atol=1e-6)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", EmptyInputError),
        (b"not a picture, but a text", UnsupportedMediaError),
        (ImageGenerator(size=(320, 240)).encode()[:4000], CorruptMediaError),
    ],
)
def test_bad_pictures(clip: ClipEmbedding, data: bytes, error: type[Exception]) -> None:
    """What is no whole picture is refused, and the next request works."""
    with pytest.raises(error, match=r"bad\.jpg"):
        embed(clip, Media(data, "bad.jpg"))
    assert (512,) == embed(clip, plain((1, 2, 3))).embedding.shape


def test_model_not_installed(tmp_path: Path) -> None:
    """Without its model the capability names it and the command, which asks for consent."""
    store = ModelStore(load_catalogue(DEFAULT_CATALOGUE), tmp_path)
    told = "cl-serve models pull mobileclip_s0_image --accept-licence$"
    with pytest.raises(ModelNotInstalledError, match=told):
        ClipEmbedding(NodeSettings(store)).load()


@pytest.mark.parametrize("model", [DINO, CLIP_TEXT])
def test_wrong_models(stand_ins: ModelStore, model: str) -> None:
    """A model of another kind is refused by name."""
    with pytest.raises(ConfigError, match=f"clip_embedding: model: '{model}' is not a model"):
        ClipEmbedding(NodeSettings(stand_ins, model=model)).load()


def test_sample(clip: ClipEmbedding) -> None:
    """The self-test's input gives an embedding."""
    (result,) = clip.run_batch([(clip.sample(), ClipEmbeddingParams())])
    assert (512,) == result.embedding.shape


@pytest.mark.parametrize("wrong", [{"normalize": "perhaps"}, {"x": 1}])
def test_wrong_parameters(wrong: dict[str, object]) -> None:
    """Wrong values and unknown parameters are refused."""
    with pytest.raises(ValidationError):
        ClipEmbeddingParams.model_validate(wrong)
