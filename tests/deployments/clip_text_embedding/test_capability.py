"""CLIP embedding of texts, with a stand-in that knows colours."""

import json
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, load_model
from pydantic import TypeAdapter, ValidationError

from deployments.clip_text_embedding import (
    ClipTextEmbedding,
    ClipTextEmbeddingParams,
    TextEmbeddings,
)
from deployments.runtime.capability import NodeSettings
from deployments.runtime.errors import (
    ConfigError,
    EmptyInputError,
    ModelNotInstalledError,
    TooLargeError,
)
from deployments.runtime.models import Catalogue, ModelStore, load_catalogue
from deployments.runtime.quantization import TrialSettings
from deployments.runtime.types import Texts
from serve_app.settings import DEFAULT_CATALOGUE
from tests.stand_ins import CLIP_IMAGE, CLIP_TEXT

TOKENIZER = "mobileclip_s0_tokenizer"


@pytest.fixture(scope="module")
def clip(stand_ins: ModelStore) -> ClipTextEmbedding:
    """Load the capability with the stand-in."""
    capability = ClipTextEmbedding(NodeSettings(stand_ins, model=CLIP_TEXT, provider="cpu"))
    capability.load()
    return capability


def embed(clip: ClipTextEmbedding, *texts: str, **params: bool) -> TextEmbeddings:
    """Embed texts."""
    return clip.run_batch([((Texts(texts),), ClipTextEmbeddingParams(**params))])[0]


def test_result(clip: ClipTextEmbedding) -> None:
    """Texts come back in their order, each with its tokens and 512 numbers of length 1."""
    result = embed(clip, "red", "a dog", "red")
    assert (512, CLIP_TEXT, "mobileclip_s0_stand_in", True) == (
        result.embedding_dim,
        result.model,
        result.space,
        result.normalized,
    )
    # The stand-in has a token for a colour's name and one for every other letter.
    expected = [("red", 3, False), ("a dog", 6, False), ("red", 3, False)]
    assert expected == [(text.text, text.token_count, text.truncated) for text in result.texts]
    for text in result.texts:
        assert ((512,), np.float32) == (text.embedding.shape, text.embedding.dtype)
        assert np.linalg.norm(text.embedding) == pytest.approx(1, abs=1e-6)
    np.testing.assert_array_equal(result.texts[0].embedding, result.texts[2].embedding)
    assert float(result.texts[0].embedding @ result.texts[1].embedding) < 0.9


def test_not_normalized(clip: ClipTextEmbedding) -> None:
    """Without normalisation the direction is the same and the length the model's."""
    (unit,), raw = embed(clip, "blue").texts, embed(clip, "blue", normalize=False)
    length = np.linalg.norm(raw.texts[0].embedding)
    assert not raw.normalized
    assert length != pytest.approx(1, abs=0.01)
    np.testing.assert_allclose(unit.embedding, raw.texts[0].embedding / length, atol=1e-6)


def test_batch_equals_singles(clip: ClipTextEmbedding) -> None:
    """Texts of several requests in one batch give what each gives alone, twice the same."""
    texts = ["red", "a green house", "x", "blue blue"]
    singles = [embed(clip, text).texts[0].embedding for text in texts]
    params = ClipTextEmbeddingParams()
    batch = [((Texts((texts[0],)),), params), ((Texts(tuple(texts[1:])),), params)]
    for _ in range(2):
        found = [text for result in clip.run_batch(batch) for text in result.texts]
        for got, expected in zip(found, singles, strict=True):
            np.testing.assert_array_equal(got.embedding, expected)


def test_too_long(clip: ClipTextEmbedding) -> None:
    """One text that is too long refuses the request, unless it may be cut; the next one works."""
    with pytest.raises(TooLargeError, match="truncate=true"):
        embed(clip, "red", "word " * 10_000)
    short, long = embed(clip, "red " * 75, "red " * 10_000, truncate=True).texts
    assert (77, False) == (short.token_count, short.truncated)
    assert (10_002, True) == (long.token_count, long.truncated)
    np.testing.assert_array_equal(short.embedding, long.embedding)


@pytest.mark.parametrize("texts", [(), ("",), ("a cat", " \n")])
def test_empty(clip: ClipTextEmbedding, texts: tuple[str, ...]) -> None:
    """No text, and a text of nothing, are refused."""
    with pytest.raises(EmptyInputError, match="expected at least one"):
        embed(clip, *texts)


def test_wire(clip: ClipTextEmbedding) -> None:
    """A result goes to JSON and back; embeddings are lists of numbers there."""
    adapter = TypeAdapter(TextEmbeddings)
    result = embed(clip, "a cat", "ein Käfer")
    wire = adapter.dump_json(result)
    assert [512, 512] == [len(text["embedding"]) for text in json.loads(wire)["texts"]]
    back = adapter.validate_json(wire)
    assert ["a cat", "ein Käfer"] == [text.text for text in back.texts]
    np.testing.assert_allclose(back.texts[1].embedding, result.texts[1].embedding, atol=1e-6)


def test_int32_model(clip: ClipTextEmbedding, stand_ins: ModelStore, tmp_path: Path) -> None:
    """A graph that takes 32-bit tokens, and calls their number free, is given 77 of them."""
    model = load_model(stand_ins.path(CLIP_TEXT))
    model.graph.input[0].CopyFrom(
        helper.make_tensor_value_info("input_ids", TensorProto.INT32, ["N", "tokens"])
    )
    path = tmp_path / "text.onnx"
    path.write_bytes(model.SerializeToString())
    other = ClipTextEmbedding(TrialSettings(stand_ins, model=CLIP_TEXT, file=path))
    other.load()
    (expected,), (got,) = embed(clip, "a red car").texts, embed(other, "a red car").texts
    np.testing.assert_array_equal(expected.embedding, got.embedding)


def test_model_not_installed(tmp_path: Path) -> None:
    """Without its model the capability names the one command that brings the tokenizer too."""
    store = ModelStore(load_catalogue(DEFAULT_CATALOGUE), tmp_path)
    told = "cl-serve models pull mobileclip_s0_text --accept-licence$"
    with pytest.raises(ModelNotInstalledError, match=told):
        ClipTextEmbedding(NodeSettings(store)).load()


def test_tokenizer_not_installed(stand_ins: ModelStore, tmp_path: Path) -> None:
    """A missing tokenizer is missed by name, with the command for the model that needs it."""
    store = ModelStore(stand_ins.catalogue, tmp_path)
    store.pull(CLIP_TEXT)
    store.path(f"{TOKENIZER}_stand_in").unlink()
    told = f"'{TOKENIZER}_stand_in' is not installed.*cl-serve models pull {CLIP_TEXT}$"
    with pytest.raises(ModelNotInstalledError, match=told):
        ClipTextEmbedding(NodeSettings(store, model=CLIP_TEXT)).load()


def test_wrong_models(stand_ins: ModelStore) -> None:
    """A model of another kind is refused by name, and so is one whose entry needs no tokenizer."""
    told = "clip_text_embedding: model: '.*' is not a model for it"
    with pytest.raises(ConfigError, match=told):
        ClipTextEmbedding(NodeSettings(stand_ins, model=CLIP_IMAGE)).load()
    entry = stand_ins.catalogue[CLIP_TEXT].model_copy(update={"needs": ()})
    catalogue = Catalogue(stand_ins.catalogue.path, {CLIP_TEXT: entry})
    with pytest.raises(ConfigError, match=told):
        ClipTextEmbedding(NodeSettings(ModelStore(catalogue), model=CLIP_TEXT)).load()


def test_sample(clip: ClipTextEmbedding) -> None:
    """The self-test's input gives one embedding."""
    (result,) = clip.run_batch([(clip.sample(), ClipTextEmbeddingParams())])
    assert 1 == len(result.texts)


@pytest.mark.parametrize("wrong", [{"normalize": "perhaps"}, {"truncate": 2}, {"x": 1}])
def test_wrong_parameters(wrong: dict[str, object]) -> None:
    """Wrong values and unknown parameters are refused."""
    with pytest.raises(ValidationError):
        ClipTextEmbeddingParams.model_validate(wrong)
