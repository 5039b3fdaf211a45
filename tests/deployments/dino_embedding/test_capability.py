"""DINOv2 embedding with a stand-in: all but what the real weights would make of a picture."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydantic import TypeAdapter, ValidationError

from deployments.dino_embedding import DinoEmbedding, DinoEmbeddingParams, DinoEmbeddingResult
from deployments.runtime.capability import NodeSettings
from deployments.runtime.errors import (
    ConfigError,
    CorruptMediaError,
    EmptyInputError,
    ModelNotInstalledError,
    TooLargeError,
    UnknownModelError,
    UnsupportedMediaError,
)
from deployments.runtime.models import ModelStore, load_catalogue
from deployments.runtime.picture import Picture
from deployments.runtime.random_media import ExifFields, ImageGenerator
from deployments.runtime.types import Media
from serve_app.settings import DEFAULT_CATALOGUE
from tests.stand_ins import CLIP_IMAGE, DINO

Photo = Callable[[str], Media]

PORTRAITS = ("obama", "obama2", "biden", "chelsea")


@pytest.fixture(scope="module")
def dino(stand_ins: ModelStore) -> DinoEmbedding:
    """Load the capability with the stand-in."""
    capability = DinoEmbedding(NodeSettings(stand_ins, model=DINO, provider="cpu"))
    capability.load()
    return capability


def embed(dino: DinoEmbedding, media: Media, *, normalize: bool = True) -> DinoEmbeddingResult:
    """Embed one picture."""
    return dino.run_batch([((Picture(media),), DinoEmbeddingParams(normalize=normalize))])[0]


def cosine(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Cosine of the angle between two vectors."""
    return float(first @ second / np.linalg.norm(first) / np.linalg.norm(second))


def recompressed(media: Media, quality: int) -> Media:
    """Encode a picture as a JPEG of the given quality."""
    buffer = io.BytesIO()
    Picture(media).rgb().save(buffer, format="JPEG", quality=quality)
    return Media(buffer.getvalue())


def test_result(dino: DinoEmbedding, photo: Photo) -> None:
    """A result has 384 numbers of length 1 and says which model made them, stand-in or not."""
    result = embed(dino, photo("biden"))
    assert (384, "dinov2_vits14_stand_in", True) == (
        result.embedding_dim,
        result.model,
        result.normalized,
    )
    assert ((384,), np.float32) == (result.embedding.shape, result.embedding.dtype)
    assert np.linalg.norm(result.embedding) == pytest.approx(1, abs=1e-6)


def test_not_normalized(dino: DinoEmbedding, photo: Photo) -> None:
    """Without normalisation the direction is the same and the length the model's."""
    unit, raw = embed(dino, photo("biden")), embed(dino, photo("biden"), normalize=False)
    assert not raw.normalized
    assert np.linalg.norm(raw.embedding) != pytest.approx(1, abs=0.01)
    assert cosine(unit.embedding, raw.embedding) == pytest.approx(1, abs=1e-6)


def test_the_result_is_the_models(dino: DinoEmbedding, stand_ins: ModelStore) -> None:
    """The embedding is what ONNX Runtime makes of the reference tensor."""
    import onnxruntime as ort  # noqa: PLC0415 - what the capability may not see

    image = ImageGenerator(size=(256, 256), format="PNG")
    pixels = image.pixels()[16:240, 16:240].transpose(2, 0, 1)[None].astype(np.float32) / 255
    mean, deviation = np.array([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]], np.float32)
    tensor = (pixels - mean.reshape(3, 1, 1)) / deviation.reshape(3, 1, 1)
    session = ort.InferenceSession(stand_ins.path(DINO), providers=["CPUExecutionProvider"])
    expected = np.asarray(session.run(None, {"input": tensor})[0])[0]
    got = embed(dino, image.media(), normalize=False).embedding
    np.testing.assert_allclose(got, expected, atol=1e-4)


def test_batch_equals_singles(dino: DinoEmbedding, photo: Photo) -> None:
    """Several pictures in one batch give what each gives alone, twice the same."""
    requests = [((Picture(photo(name)),), DinoEmbeddingParams()) for name in PORTRAITS]
    singles = [dino.run_batch([request])[0] for request in requests]
    for _ in range(2):
        for got, expected in zip(dino.run_batch(requests), singles, strict=True):
            np.testing.assert_array_equal(got.embedding, expected.embedding)


def test_threads_do_not_change_results(
    dino: DinoEmbedding, stand_ins: ModelStore, photo: Photo
) -> None:
    """Several pictures in one run of the model, as two threads do it, give what one by one does."""
    settings = NodeSettings(stand_ins, model=DINO, provider="cpu", num_threads=2)
    threaded = DinoEmbedding(settings)
    threaded.load()
    units = [
        dino.prepare((Picture(photo(name)),), DinoEmbeddingParams()).units[0] for name in PORTRAITS
    ]
    for got, expected in zip(threaded.infer(units), dino.infer(units), strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-4)


def test_similar_pictures(dino: DinoEmbedding, photo: Photo) -> None:
    """A photo is nearer to its own recompression than to any other photo."""
    found = {name: embed(dino, photo(name)).embedding for name in PORTRAITS}
    for name in PORTRAITS:
        again = embed(dino, recompressed(photo(name), 60)).embedding
        nearest = max(found, key=lambda other: cosine(again, found[other]))
        assert name == nearest
        assert cosine(again, found[name]) > 0.99


def test_scaled_decoding(dino: DinoEmbedding) -> None:
    """A 12-megapixel JPEG, decoded at a quarter, gives nearly the embedding of all its pixels."""
    media = ImageGenerator(size=(4032, 3024)).media()
    picture = Picture(media)
    lossless = io.BytesIO()
    picture.rgb().save(lossless, format="PNG", compress_level=0)
    assert (1008, 756) == picture.rgb(342).size
    full = embed(dino, Media(lossless.getvalue()))
    assert cosine(full.embedding, embed(dino, media).embedding) > 0.999


def test_orientation(dino: DinoEmbedding) -> None:
    """A picture that a camera stored lying is embedded as a person sees it."""
    stored = ImageGenerator(size=(300, 400), exif=ExifFields(orientation=6))
    buffer = io.BytesIO()
    Picture(stored.media()).rgb().save(buffer, format="PNG")
    upright = embed(dino, Media(buffer.getvalue()))
    np.testing.assert_array_equal(upright.embedding, embed(dino, stored.media()).embedding)


def test_wire(dino: DinoEmbedding, photo: Photo) -> None:
    """A result goes to JSON and back; the embedding is a list of numbers there."""
    adapter = TypeAdapter(DinoEmbeddingResult)
    result = embed(dino, photo("obama"))
    wire = adapter.dump_json(result)
    assert 384 == len(json.loads(wire)["embedding"])
    back = adapter.validate_json(wire)
    np.testing.assert_allclose(back.embedding, result.embedding, atol=1e-6)


def _photo_bytes() -> bytes:
    return ImageGenerator(size=(320, 240)).encode()


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", EmptyInputError),
        (b"not a picture, but a text", UnsupportedMediaError),
        (b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom", UnsupportedMediaError),
        (_photo_bytes()[:20], CorruptMediaError),
        (_photo_bytes()[:4000], CorruptMediaError),
    ],
)
def test_bad_pictures(dino: DinoEmbedding, data: bytes, error: type[Exception]) -> None:
    """What is no whole picture is refused, and the next request works."""
    with pytest.raises(error, match=r"bad\.jpg"):
        embed(dino, Media(data, "bad.jpg"))
    assert (384,) == embed(dino, Media(_photo_bytes())).embedding.shape


def test_huge_picture() -> None:
    """A picture of more pixels than allowed is refused by its header."""
    buffer = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(buffer, format="PNG")
    with pytest.raises(TooLargeError, match="400000000 pixels"):
        Picture(Media(buffer.getvalue()))


def test_model_not_installed(tmp_path: Path) -> None:
    """Without its model the capability names it and the command that installs it."""
    store = ModelStore(load_catalogue(DEFAULT_CATALOGUE), tmp_path)
    told = r"'dinov2_vits14' is not installed.*cl-serve models pull dinov2_vits14$"
    with pytest.raises(ModelNotInstalledError, match=told):
        DinoEmbedding(NodeSettings(store)).load()


def test_wrong_models(stand_ins: ModelStore) -> None:
    """A model of another kind is refused by name, and so is an unknown one."""
    with pytest.raises(ConfigError, match=f"dino_embedding: model: '{CLIP_IMAGE}' is not a model"):
        DinoEmbedding(NodeSettings(stand_ins, model=CLIP_IMAGE)).load()
    with pytest.raises(UnknownModelError):
        DinoEmbedding(NodeSettings(stand_ins, model="nobody")).load()


def test_sample(dino: DinoEmbedding) -> None:
    """The self-test's input gives an embedding."""
    (result,) = dino.run_batch([(dino.sample(), DinoEmbeddingParams())])
    assert (384,) == result.embedding.shape


@pytest.mark.parametrize("wrong", [{"normalize": "perhaps"}, {"x": 1}])
def test_wrong_parameters(wrong: dict[str, object]) -> None:
    """Wrong values and unknown parameters are refused."""
    with pytest.raises(ValidationError):
        DinoEmbeddingParams.model_validate(wrong)
