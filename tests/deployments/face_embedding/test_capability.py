"""Face embedding on photographs, with the default model."""

import itertools
import json
from collections.abc import Callable

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from deployments.face_embedding import FaceEmbedding, FaceEmbeddingParams, FaceEmbeddings
from deployments.runtime.capability import NodeSettings
from deployments.runtime.errors import ConfigError, UnknownModelError
from deployments.runtime.models import Catalogue, ModelStore
from deployments.runtime.types import AlignedFaces, Media
from tests.deployments.faces_support import (
    FACE_TILES,
    GOLDEN,
    OBAMA,
    PORTRAITS,
    FaceChain,
    cosine,
    crowd,
    face_tile,
    to_image,
    to_media,
)

Photo = Callable[[str], Media]


def embed(
    chain: FaceChain, aligned: AlignedFaces, *, normalize: bool = True, min_quality: float = 0.0
) -> FaceEmbeddings:
    """Embed aligned faces."""
    params = FaceEmbeddingParams(normalize=normalize, min_quality=min_quality)
    return chain.embedding.run_batch([((aligned,), params)])[0]


def test_golden(chain: FaceChain, photo: Photo) -> None:
    """Embeddings of the portraits are the recorded ones."""
    golden = json.loads((GOLDEN / "face_embedding.json").read_text())
    for name in PORTRAITS:
        (face,) = chain.embed(photo(name)).faces
        assert cosine(np.array(golden[name], np.float32), face.embedding) >= 0.999, name


def test_persons(chain: FaceChain, photo: Photo) -> None:
    """Photos of one person are near each other, and those of different persons are not."""
    embeddings = {name: chain.embed(photo(name)).faces[0].embedding for name in PORTRAITS}
    for first, second in itertools.combinations(PORTRAITS, 2):
        similarity = cosine(embeddings[first], embeddings[second])
        if first in OBAMA and second in OBAMA:
            assert similarity >= 0.6, (first, second)
        else:
            assert similarity <= 0.3, (first, second)


def test_result(chain: FaceChain, photo: Photo) -> None:
    """A result says which model made it, of how many numbers, and keeps box and landmarks."""
    aligned = chain.align(photo("biden"))
    result = embed(chain, aligned)
    (face,) = result.faces
    assert (result.model, result.embedding_dim, result.normalized) == ("mobilefacenet", 192, True)
    assert (result.image_width, result.image_height) == (970, 2204)
    assert face.embedding.shape == (192,)
    assert face.embedding.dtype == np.float32
    assert np.linalg.norm(face.embedding) == pytest.approx(1, abs=1e-6)
    assert (face.box, face.landmarks) == (aligned.faces[0].box, aligned.faces[0].landmarks)
    assert face.quality.confidence == face.confidence == aligned.faces[0].confidence
    assert face.quality.size_px == pytest.approx(314, rel=0.1)


def test_not_normalized(chain: FaceChain, photo: Photo) -> None:
    """Without normalisation the direction is the same and the length the model's."""
    aligned = chain.align(photo("biden"))
    unit, raw = embed(chain, aligned), embed(chain, aligned, normalize=False)
    assert not raw.normalized
    assert np.linalg.norm(raw.faces[0].embedding) != pytest.approx(1, abs=0.01)
    assert cosine(unit.faces[0].embedding, raw.faces[0].embedding) == pytest.approx(1, abs=1e-6)


def test_crop_is_near_the_photo(chain: FaceChain, photo: Photo) -> None:
    """A loosely cropped face, sent as a crop, gives nearly the embedding of the whole photo."""
    for name in FACE_TILES:
        whole = chain.embed(photo(name)).faces[0].embedding
        tile = to_media(face_tile(to_image(photo(name)), name))
        (crop,) = chain.embed(tile, cropped=True).faces
        assert cosine(whole, crop.embedding) >= 0.85, name


def test_crowd_is_recognised(chain: FaceChain, photo: Photo) -> None:
    """Faces of 70 pixels and more in a montage are those of the portraits they were cut from."""
    portraits = {name: to_image(photo(name)) for name in FACE_TILES}
    references = {name: chain.embed(photo(name)).faces[0].embedding for name in FACE_TILES}
    image, _ = crowd(portraits, (200, 150, 120, 100, 90, 80, 75, 70), (1200, 900), 4)
    faces = chain.embed(to_media(image), effort="thorough").faces
    assert len(faces) == 8
    for face in faces:
        best = max(cosine(face.embedding, reference) for reference in references.values())
        assert best > 0.85


def test_face_without_landmarks(chain: FaceChain, photo: Photo) -> None:
    """A crop in which no face is found is embedded as it is, and scores 0."""
    (face,) = chain.embed(photo("gravel"), cropped=True).faces
    assert face.embedding.shape == (192,)
    assert face.quality.score == 0
    assert face.landmarks == {}


def test_min_quality(chain: FaceChain, photo: Photo) -> None:
    """Faces below the asked-for score are left out, and do not shift the others' embeddings."""
    portraits = {name: to_image(photo(name)) for name in FACE_TILES}
    image, _ = crowd(portraits, (200, 60, 180, 50), (1000, 800), 1)
    aligned = chain.align(to_media(image), effort="thorough")
    everyone = embed(chain, aligned).faces
    scores = sorted(face.quality.score for face in everyone)
    some = embed(chain, aligned, min_quality=scores[2]).faces
    assert len(everyone) == 4
    expected = [face for face in everyone if face.quality.score >= scores[2]]
    assert [face.quality for face in expected] == [face.quality for face in some]
    for want, got in zip(expected, some, strict=True):
        np.testing.assert_array_equal(want.embedding, got.embedding)


def test_no_faces(chain: FaceChain) -> None:
    """No faces give none, and still say the model's dimension."""
    result = embed(chain, AlignedFaces((), np.zeros((0, 112, 112, 3), np.uint8), 10, 20))
    assert result == FaceEmbeddings((), 192, "mobilefacenet", True, 10, 20)  # noqa: FBT003 - a field


def test_batch_equals_singles(chain: FaceChain, photo: Photo) -> None:
    """Faces of several photos in one batch give what each photo gives alone, twice the same."""
    requests = [
        ((chain.align(photo(name)),), FaceEmbeddingParams())
        for name in ("obama", "coffee", "biden")
    ]
    singles = [chain.embedding.run_batch([request])[0] for request in requests]
    for _ in range(2):
        for got, expected in zip(chain.embedding.run_batch(requests), singles, strict=True):
            assert len(got.faces) == len(expected.faces)
            for one, other in zip(got.faces, expected.faces, strict=True):
                np.testing.assert_array_equal(one.embedding, other.embedding)


def test_threads_do_not_change_results(store: ModelStore, chain: FaceChain, photo: Photo) -> None:
    """Several faces in one run of the model give what one by one gives."""
    embedding = FaceEmbedding(NodeSettings(store, provider="cpu", num_threads=2))
    embedding.load()
    crops = [chain.align(photo(name)).crops[0] for name in PORTRAITS]
    for got, expected in zip(embedding.infer(crops), chain.embedding.infer(crops), strict=True):
        assert cosine(got, expected) > 0.99999


def test_wire(chain: FaceChain, photo: Photo) -> None:
    """A result goes to JSON and back; the embedding is a list of numbers there."""
    adapter = TypeAdapter(FaceEmbeddings)
    result = chain.embed(photo("obama"))
    wire = adapter.dump_json(result)
    assert len(json.loads(wire)["faces"][0]["embedding"]) == 192
    back = adapter.validate_json(wire)
    np.testing.assert_allclose(back.faces[0].embedding, result.faces[0].embedding, atol=1e-6)
    assert back.faces[0].quality == result.faces[0].quality


def test_bgr_model(store: ModelStore, chain: FaceChain, photo: Photo) -> None:
    """A model whose contract says BGR gets its channels the other way round."""
    entry = store.catalogue["mobilefacenet"]
    assert entry.contract is not None
    swapped = entry.contract.model_copy(
        update={"input": entry.contract.input.model_copy(update={"colour": "BGR"})}
    )
    catalogue = Catalogue(
        store.catalogue.path, {entry.name: entry.model_copy(update={"contract": swapped})}
    )
    embedding = FaceEmbedding(NodeSettings(ModelStore(catalogue, store.cache), provider="cpu"))
    embedding.load()
    crop = chain.align(photo("obama")).crops[0]
    (expected,) = chain.embedding.infer([crop])
    (got,) = embedding.infer([crop[..., ::-1]])
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_wrong_models(store: ModelStore) -> None:
    """A model of another kind is refused by name, and so is an unknown one."""
    with pytest.raises(ConfigError, match="'blazeface_full_range' is not a model for it"):
        FaceEmbedding(NodeSettings(store, model="blazeface_full_range")).load()
    with pytest.raises(UnknownModelError):
        FaceEmbedding(NodeSettings(store, model="nobody")).load()


def test_sample(chain: FaceChain) -> None:
    """The self-test's input gives one embedding."""
    result = embed(chain, chain.embedding.sample()[0])
    assert len(result.faces) == 1


@pytest.mark.parametrize("wrong", [{"min_quality": 1.5}, {"normalize": "perhaps"}, {"x": 1}])
def test_wrong_parameters(wrong: dict[str, object]) -> None:
    """Parameters outside their range, and unknown ones, are refused."""
    with pytest.raises(ValidationError):
        FaceEmbeddingParams.model_validate(wrong)
