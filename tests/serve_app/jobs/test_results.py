"""What a job shows of each kind of result, and the files that it leaves."""

import io
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from deployments.clip_similarity import ClipSimilarityResult
from deployments.clip_similarity.schema import TextScore
from deployments.dino_embedding import DinoEmbeddingResult
from deployments.exif import ExifMetadata
from deployments.face_embedding import EmbeddedFace, FaceEmbeddings
from deployments.face_embedding.schema import FaceQuality
from deployments.hash import Hashes
from deployments.hls_streaming import HlsStream
from deployments.image_conversion import ConvertedImage
from deployments.media_thumbnail import Thumbnail
from deployments.runtime.asset import Asset
from deployments.runtime.embeddings import ImageEmbedding
from deployments.runtime.types import Box, DetectedFaces, EncodedFile, Face, Media
from serve_app.jobs.results import Source, shape
from tests.deployments.faces_support import FaceChain, cosine

SIDEWAYS = 6
"""EXIF orientation of a camera that was turned: the stored picture's top is on the right."""

LANDMARKS = {
    "right_eye": (0.4, 0.4),
    "left_eye": (0.6, 0.4),
    "nose_tip": (0.5, 0.5),
    "mouth_center": (0.5, 0.6),
    "right_ear_tragion": (-0.1, 0.45),
    "left_ear_tragion": (0.7, 0.45),
}
QUALITY = FaceQuality(0.75, 0.9, 100.0, 0.8)


def source_of(task: str, data: bytes = b"", node: str = "", **known: Any) -> Source:  # noqa: ANN401 - fields of Source
    """Say where a result comes from; without bytes, no file may be asked for."""

    def asset() -> Asset:
        assert data, "a shape asked for a file that it has no use for"
        return Asset(Media(data, "photo.jpg"))

    return Source(node or task, task, asset, **known)


def array_of(data: bytes) -> NDArray[np.float32]:
    """Read an array as clients do."""
    return np.load(io.BytesIO(data), allow_pickle=False)


def row(seed: int) -> NDArray[np.float32]:
    """Make an embedding of four numbers."""
    return np.random.default_rng(seed).normal(0, 0.1, 4).astype(np.float32)


def embedded(seed: int) -> EmbeddedFace:
    """Make a face with its embedding."""
    return EmbeddedFace(Box(0.1, 0.1, 0.2, 0.2), 0.8, LANDMARKS, row(seed), QUALITY)


def photograph(orientation: int = 1) -> bytes:
    """Make a picture without loss: 40 x 20 pixels as a person sees it, each with a colour."""
    x, y = np.meshgrid(np.arange(40), np.arange(20))
    upright = Image.fromarray(np.stack([x * 6, y * 12, x + y], axis=-1).astype(np.uint8))
    stored = upright.transpose(Image.Transpose.ROTATE_90) if orientation == SIDEWAYS else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    stored.save(buffer, "png", exif=exif)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("task", "result"),
    [
        ("clip_embedding", ImageEmbedding(row(1), 4, "a", "space", normalized=True)),
        ("dino_embedding", DinoEmbeddingResult(row(1), 4, "a", normalized=True)),
    ],
)
def test_embedding(task: str, result: object) -> None:
    """The file has float32 numbers of shape (D,); the output lists the same, shortly."""
    shaped = shape(result, source_of(task))
    path = f"output/{task}.npy"
    assert [path] == list(shaped.files)
    array = array_of(shaped.files[path])
    assert (np.dtype("<f4"), (4,)) == (array.dtype, array.shape)
    np.testing.assert_array_equal(row(1), array)
    listed = shaped.task_output["embedding"]
    np.testing.assert_array_equal(array, np.array(listed, np.float32))
    assert max(map(len, map(str, listed))) <= 13
    assert {"embedding_dim": 4, "normalized": True, "output_path": path}.items() <= (
        shaped.task_output.items()
    )


@pytest.mark.parametrize(
    ("seeds", "cropped", "shape_", "quality"),
    [
        ([], False, (0, 4), None),
        ([], True, (0, 4), None),
        ([1], True, (4,), 0.75),
        ([1], False, (1, 4), 0.75),
        ([1, 2, 3], False, (3, 4), 0.75),
    ],
)
def test_face_embeddings(
    seeds: list[int],
    cropped: bool,  # noqa: FBT001 - a column of the table
    shape_: tuple[int, ...],
    quality: float | None,
) -> None:
    """The crop of a face gives one row, a photo one for each face, and none is no mistake."""
    faces = tuple(embedded(seed) for seed in seeds)
    result = FaceEmbeddings(faces, 4, "a", normalized=True, image_width=40, image_height=20)
    shaped = shape(result, source_of("face_embedding", cropped=cropped))
    array = array_of(shaped.files["output/face_embedding.npy"])
    assert (np.dtype("<f4"), shape_) == (array.dtype, array.shape)
    output = shaped.task_output
    assert (quality, 4, True) == tuple(
        output[name] for name in ("quality_score", "embedding_dim", "normalized")
    )
    assert len(seeds) == len(output["embeddings"]) == len(output["faces"])
    assert (output["embeddings"][0] if seeds else None) == output["embedding"]
    json.dumps(output)


@pytest.mark.parametrize("orientation", [1, SIDEWAYS])
def test_face_crops(orientation: int) -> None:
    """Crops are cut with a margin, without loss, from the picture as a person sees it."""
    boxes = (Box(0.5, 0.25, 0.75, 0.75), Box(-0.2, -0.2, 0.1, 0.1), Box(1.1, 1.1, 1.2, 1.2))
    faces = tuple(Face(box, 0.9, {}) for box in boxes)
    shaped = shape(
        DetectedFaces(faces, 40, 20), source_of("face_detection", photograph(orientation))
    )
    crops = [
        np.asarray(Image.open(io.BytesIO(shaped.files[f"faces/face_{i}.png"]))) for i in range(3)
    ]
    upright = np.asarray(Image.open(io.BytesIO(photograph())))
    # A quarter of 10 x 10 pixels on each side, rounded to even, and no more than there is.
    np.testing.assert_array_equal(upright[2:18, 18:32], crops[0])
    np.testing.assert_array_equal(upright[:4, :7], crops[1])
    np.testing.assert_array_equal(upright[19:, 39:], crops[2])


def test_detected_faces() -> None:
    """Faces have the protocol's fields, within the picture; what is estimated is named."""
    face = Face(Box(-0.1, 0.2, 0.7, 1.2), 0.9, LANDMARKS)
    shaped = shape(DetectedFaces((face,), 40, 20), source_of("face_detection", photograph()))
    (shown,) = shaped.task_output["faces"]
    assert {"x1": 0.0, "y1": 0.2, "x2": 0.7, "y2": 1.0} == shown["bbox"]
    assert "faces/face_0.png" == shown["file_path"]
    assert (1, 40, 20) == tuple(
        shaped.task_output[name] for name in ("num_faces", "image_width", "image_height")
    )
    landmarks = shown["landmarks"]
    assert [0.4, 0.4] == landmarks["right_eye"]
    assert [0.5, 0.6] == landmarks["mouth_center"]
    assert [0.0, 0.45] == landmarks["right_ear_tragion"]
    assert ["mouth_right", "mouth_left"] == shown["estimated_landmarks"]
    np.testing.assert_allclose([0.5 - 0.0828, 0.6], landmarks["mouth_right"])
    np.testing.assert_allclose([0.5 + 0.0828, 0.6], landmarks["mouth_left"])
    in_file = json.loads(shaped.files["output/face_detection.json"])
    assert shaped.fields == in_file


def test_landmarks_that_are_known() -> None:
    """Corners of the mouth that a detector gives stay; without landmarks none are made up."""
    known = Face(Box(0, 0, 1, 1), 0.9, {**LANDMARKS, "mouth_right": (0.45, 0.61)})
    unknown = Face(Box(0, 0, 1, 1), 0.0, {})
    shaped = shape(
        DetectedFaces((known, unknown), 40, 20), source_of("face_detection", photograph())
    )
    first, second = shaped.task_output["faces"]
    assert [0.45, 0.61] == first["landmarks"]["mouth_right"]
    assert ["mouth_left"] == first["estimated_landmarks"]
    assert ({}, []) == (second["landmarks"], second["estimated_landmarks"])


def test_no_faces() -> None:
    """A picture without a face is not opened, and has an empty list."""
    shaped = shape(DetectedFaces((), 40, 20), source_of("face_detection"))
    assert ([], 0) == (shaped.task_output["faces"], shaped.task_output["num_faces"])
    assert ["output/face_detection.json"] == list(shaped.files)


@pytest.mark.parametrize("name", ["obama", "obama3", "biden", "astronaut"])
def test_crop_is_as_good_as_the_photo(
    chain: FaceChain, photo: Callable[[str], Media], name: str
) -> None:
    """A ``face_embedding`` of the crop that a ``face_detection`` left is that of the photo."""
    media = photo(name)
    detected = chain.detect(media, confidence_threshold=0.7, nms_threshold=0.4)
    shaped = shape(detected, source_of("face_detection", media.data))
    crop = Media(shaped.files["faces/face_0.png"], "face_0.png")
    of_crop = chain.embed(crop, cropped=True).faces[0].embedding
    assert cosine(chain.embed(media).faces[0].embedding, of_crop) > 0.95


@pytest.mark.parametrize(
    ("mime", "word"),
    [
        ("image/jpeg", "image"),
        ("video/mp4", "video"),
        ("audio/mpeg", "audio"),
        ("text/plain", "text"),
        ("application/zip", "file"),
    ],
)
def test_hashes(mime: str, word: str) -> None:
    """The file has the protocol's four fields; the output all that is known."""
    result = Hashes("ab12", "md5", mime, 3, "f0", "0f", None, None)
    shaped = shape(result, source_of("hash", elapsed_ms=250.0))
    assert {
        "hash_value": "ab12",
        "algorithm": "md5",
        "media_type": word,
        "process_time": 0.25,
    } == json.loads(shaped.files["output/hash.json"])
    assert {"media_type": word, "mime_type": mime, "phash": "f0", "dhash": "0f"}.items() <= (
        shaped.task_output.items()
    )


def test_metadata() -> None:
    """Output and file have all fields, those without a value among them."""
    nothing: dict[str, Any] = dict.fromkeys(ExifMetadata.__dataclass_fields__)
    known = {"media_type": "image/jpeg", "make": "Sample", "raw_metadata": {"EXIF:Make": "Sample"}}
    shaped = shape(ExifMetadata(**(nothing | known)), source_of("exif"))
    output = shaped.task_output
    assert ("Sample", None) == (output["make"], output["gps_latitude"])
    assert {"EXIF:Make": "Sample"} == output["raw_metadata"]
    assert shaped.fields == json.loads(shaped.files["output/exif_metadata.json"])


@pytest.mark.parametrize(
    ("result", "path"),
    [
        (ConvertedImage(b"1", "image/png", "photo.png", 2, 3, 1), "output/converted_photo.png"),
        (Thumbnail(b"1", "image/jpeg", "photo-thumbnail.jpg", 2, 3), "output/thumbnail.jpg"),
        (Thumbnail(b"1", "image/webp", "photo-thumbnail.webp", 2, 3), "output/thumbnail.webp"),
        (EncodedFile(b"1", "text/plain", "a.txt"), "output/a.txt"),
        (EncodedFile(b"1", "text/plain", "../../etc/a.txt"), "output/a.txt"),
        (EncodedFile(b"1", "text/plain", ""), "output/any"),
    ],
)
def test_result_that_is_a_file(result: EncodedFile, path: str) -> None:
    """Its bytes are the job's file, and not part of the output, which says where they are."""
    shaped = shape(result, source_of("any", photograph()))
    assert {path: b"1"} == shaped.files
    assert path == shaped.task_output["output_path"]
    assert {"data", "filename"}.isdisjoint(shaped.task_output)


def test_thumbnail_says_what_it_is_of() -> None:
    """A thumbnail's media type is that of its source; its path has a name of its own besides."""
    result = Thumbnail(b"1", "image/webp", "photo-thumbnail.webp", 2, 3)
    output = shape(result, source_of("media_thumbnail", photograph())).task_output
    assert ("image", "image/png") == (output["media_type"], output["mime_type"])
    assert "output/thumbnail.webp" == output["thumbnail_path"]
    assert (2, 3) == (output["width"], output["height"])


@pytest.mark.parametrize(
    ("task", "playlist", "expected"),
    [
        ("hls_streaming", "adaptive.m3u8", "output/adaptive.m3u8"),
        ("analyze", "adaptive.m3u8", "output/hls_streaming/adaptive.m3u8"),
        ("hls_streaming", "/videos/a/adaptive.m3u8", "/videos/a/adaptive.m3u8"),
    ],
)
def test_stream(task: str, playlist: str, expected: str) -> None:
    """A stream's files are there already; its playlist is where a client finds it."""
    result = HlsStream(None, playlist, (), 3, 12, 24.0, include_original=True, notes=())
    shaped = shape(result, source_of(task, node="hls_streaming"))
    assert {} == shaped.files
    expected_output = {
        "master_playlist": expected,
        "output_path": expected,
        "variants_generated": 3,
        "total_segments": 12,
        "include_original": True,
    }
    assert expected_output.items() <= shaped.task_output.items()


def test_any_other_result() -> None:
    """What the protocol does not know is given as JSON, in a file of the node's name."""
    result = ClipSimilarityResult((TextScore("a cat", 0.3, 1.0),), "a", "b")
    shaped = shape(result, source_of("clip_similarity"))
    assert [{"text": "a cat", "cosine": 0.3, "probability": 1.0}] == shaped.task_output["texts"]
    assert shaped.fields == json.loads(shaped.files["output/clip_similarity.json"])


def test_files_of_several_outputs() -> None:
    """In an ``analyze`` job, each node has a folder of its own."""
    faces = DetectedFaces((Face(Box(0, 0, 1, 1), 0.9, {}),), 40, 20)
    shaped = shape(faces, source_of("analyze", photograph(), node="face_detection"))
    folder = "output/face_detection"
    assert {f"{folder}/face_detection.json", f"{folder}/faces/face_0.png"} == set(shaped.files)
    assert f"{folder}/faces/face_0.png" == shaped.task_output["faces"][0]["file_path"]
