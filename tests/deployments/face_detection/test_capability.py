"""Face detection on photographs, with the real models."""

import io
import json
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from deployments.face_detection import FaceDetection, FaceDetectionParams
from deployments.runtime.capability import NodeSettings
from deployments.runtime.errors import ConfigError
from deployments.runtime.models import ModelStore
from deployments.runtime.picture import Picture
from deployments.runtime.random_media import ImageGenerator
from deployments.runtime.types import Box, DetectedFaces, Media
from tests.deployments.faces_support import (
    DETECTORS,
    FACE_TILES,
    GOLDEN,
    NOBODY,
    PORTRAITS,
    FaceChain,
    crowd,
    face_tile,
    iou,
    to_image,
    to_media,
)

Photo = Callable[[str], Media]
EFFORTS = ("fast", "standard", "thorough")
# 3.5 % to 17.5 % of the long side of a picture 1600 pixels wide.
CROWD_FACES_PX = (280, 200, 160, 130, 115, 100, 92, 86, 80, 76)
CROWD_FACES_PX += (72, 70, 68, 66, 64, 62, 60, 58, 56, 56)
CROWDS = 4


@pytest.mark.parametrize("model", DETECTORS)
def test_golden(store: ModelStore, photo: Photo, model: str) -> None:
    """Boxes, landmarks and confidence of the portraits are the recorded ones."""
    detection = FaceDetection(NodeSettings(store, model=model, provider="cpu"))
    detection.load()
    golden = json.loads((GOLDEN / "face_detection.json").read_text())[model]
    for name in PORTRAITS:
        inputs = (Picture(photo(name)),)
        (face,) = detection.run_batch([(inputs, FaceDetectionParams(effort="fast"))])[0].faces
        expected = golden[name]
        box = (face.box.x1, face.box.y1, face.box.x2, face.box.y2)
        assert expected["box"] == pytest.approx(box, abs=0.01), name
        assert expected["confidence"] == pytest.approx(face.confidence, abs=0.03), name
        assert list(expected["landmarks"]) == list(face.landmarks)
        for landmark, point in face.landmarks.items():
            assert expected["landmarks"][landmark] == pytest.approx(point, abs=0.01), name


def test_sides_are_the_persons_own(chain: FaceChain, photo: Photo) -> None:
    """The right eye and ear of a person who looks at us are on the left."""
    for name in PORTRAITS:
        points = chain.detect(photo(name)).faces[0].landmarks
        assert points["right_eye"][0] < points["nose_tip"][0] < points["left_eye"][0]
        assert points["right_ear_tragion"][0] < points["left_ear_tragion"][0]
        assert points["right_eye"][1] < points["nose_tip"][1] < points["mouth_center"][1]


@pytest.mark.parametrize("effort", EFFORTS)
@pytest.mark.parametrize("name", NOBODY)
def test_nobody(chain: FaceChain, photo: Photo, name: str, effort: str) -> None:
    """No face is found in a photo without one."""
    assert chain.detect(photo(name), effort=effort).faces == ()


@pytest.mark.parametrize("effort", EFFORTS)
def test_nobody_in_made_up_photos(chain: FaceChain, effort: str) -> None:
    """No face is found in made-up photos."""
    photos = ImageGenerator(size=(1200, 900), seed=7)
    for number in range(4):
        assert chain.detect(photos.media(number), effort=effort).faces == ()


def test_recall_by_effort(chain: FaceChain, photo: Photo) -> None:
    """More effort finds more of a crowd, thorough nearly all, and none finds what is not there."""
    portraits = {name: to_image(photo(name)) for name in FACE_TILES}
    found = dict.fromkeys(EFFORTS, 0)
    total = 0
    for seed in range(CROWDS):
        image, boxes = crowd(portraits, CROWD_FACES_PX, (1600, 1200), seed)
        total += len(boxes)
        for effort in EFFORTS:
            faces = chain.detect(to_media(image), effort=effort).faces
            matches = [[iou(box, face.box) > 0.4 for box in boxes] for face in faces]
            assert all(sum(row) == 1 for row in matches), f"{effort}: a false face"
            assert len(faces) == np.any(matches, axis=0).sum(), f"{effort}: a face twice"
            found[effort] += len(faces)
    recall = {effort: count / total for effort, count in found.items()}
    print("recall of", total, "faces:", recall)  # noqa: T201 - read with pytest -rP
    assert recall["fast"] <= recall["standard"] < recall["thorough"]
    assert recall["thorough"] >= 0.95


@pytest.mark.parametrize("share", [0.8, 1.0, 1.1])
def test_face_fills_the_frame(chain: FaceChain, photo: Photo, share: float) -> None:
    """A face that fills the frame is found by the bordered view."""
    for name in FACE_TILES:
        image = to_image(photo(name))
        left, top, side, face = FACE_TILES[name]
        frame_px = side * face.width / share
        x = left + side * (face.x1 + face.x2) / 2 - frame_px / 2
        y = top + side * (face.y1 + face.y2) / 2 - frame_px / 2
        frame = image.crop((round(x), round(y), round(x + frame_px), round(y + frame_px)))
        (found,) = chain.detect(to_media(frame)).faces
        margin = (1 - share) / 2
        expected = Box(margin, margin, 1 - margin, 1 - margin)
        assert iou(found.box, expected) > 0.6, name


def test_exif_orientation(chain: FaceChain, photo: Photo) -> None:
    """Boxes are in the picture as a person sees it, however it is stored."""
    upright = chain.detect(photo("obama"))
    stored = to_image(photo("obama")).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    stored.save(buffer, format="JPEG", quality=95, exif=exif)
    turned = chain.detect(Media(buffer.getvalue()))
    assert (turned.image_width, turned.image_height) == (upright.image_width, upright.image_height)
    assert iou(turned.faces[0].box, upright.faces[0].box) > 0.95


def test_limit_keeps_the_best(chain: FaceChain, photo: Photo) -> None:
    """A limit of one keeps the most confident face."""
    portraits = {name: to_image(photo(name)) for name in FACE_TILES}
    image, _ = crowd(portraits, (200, 180, 160), (1200, 900), 0)
    all_faces = chain.detect(to_media(image)).faces
    assert len(all_faces) == 3
    assert all_faces == tuple(sorted(all_faces, key=lambda face: -face.confidence))
    assert chain.detect(to_media(image), limit=1).faces == all_faces[:1]


def test_min_face_size(chain: FaceChain, photo: Photo) -> None:
    """Faces smaller than asked for, in the original's pixels, are left out."""
    result = chain.detect(photo("obama"))
    size_px = max(
        result.faces[0].box.width * result.image_width,
        result.faces[0].box.height * result.image_height,
    )
    assert len(chain.detect(photo("obama"), min_face_size=size_px - 1).faces) == 1
    assert chain.detect(photo("obama"), min_face_size=size_px + 1).faces == ()


def test_cropped_returns_one_face(chain: FaceChain, photo: Photo) -> None:
    """A crop gives its one face; a picture without one gives itself."""
    tile = face_tile(to_image(photo("biden")), "biden")
    (face,) = chain.detect(to_media(tile), cropped=True).faces
    assert iou(face.box, FACE_TILES["biden"][3]) > 0.7
    assert face.landmarks
    (whole,) = chain.detect(photo("gravel"), cropped=True).faces
    assert whole.box == Box(0, 0, 1, 1)
    assert whole.confidence == 0
    assert whole.landmarks == {}


def test_cropped_returns_the_best_of_many(chain: FaceChain, photo: Photo) -> None:
    """Of several faces a crop gives one, whatever the other parameters say."""
    portraits = {name: to_image(photo(name)) for name in FACE_TILES}
    image, _ = crowd(portraits, (300, 150), (900, 700), 0)
    params = {"cropped": True, "min_face_size": 5000, "confidence_threshold": 1.0}
    assert len(chain.detect(to_media(image), **params).faces) == 1


def test_batch_equals_singles(chain: FaceChain, photo: Photo) -> None:
    """Requests of different kinds in one batch give what each gives alone, twice the same."""
    requests = [
        ((Picture(photo("obama")),), FaceDetectionParams(effort="thorough")),
        ((Picture(photo("coffee")),), FaceDetectionParams()),
        ((Picture(photo("biden")),), FaceDetectionParams(effort="fast")),
        ((Picture(photo("astronaut")),), FaceDetectionParams(cropped=True)),
    ]
    singles = [chain.detection.run_batch([request])[0] for request in requests]
    assert chain.detection.run_batch(requests) == singles
    assert chain.detection.run_batch(requests) == singles


def test_threads_do_not_change_results(store: ModelStore, photo: Photo) -> None:
    """Several views in one run of the model give what one by one gives."""
    detection = FaceDetection(NodeSettings(store, provider="cpu", num_threads=2))
    detection.load()
    alone = FaceDetection(NodeSettings(store, provider="cpu"))
    alone.load()
    work = alone.prepare((Picture(photo("obama")),), FaceDetectionParams())
    for got, expected in zip(detection.infer(work.units), alone.infer(work.units), strict=True):
        for got_array, expected_array in zip(got, expected, strict=True):
            np.testing.assert_allclose(got_array, expected_array, atol=1e-3)


@pytest.mark.parametrize("size", [(1, 1), (3, 700), (2000, 2)])
@pytest.mark.parametrize("effort", EFFORTS)
def test_odd_sizes(chain: FaceChain, size: tuple[int, int], effort: str) -> None:
    """Pictures of any proportions are looked at, and nothing is found in a grey one."""
    result = chain.detect(to_media(Image.new("RGB", size, "grey")), effort=effort)
    assert result == DetectedFaces((), *size)


def test_sample(chain: FaceChain) -> None:
    """The self-test's input runs and has no face."""
    detection = chain.detection
    assert detection.run_batch([(detection.sample(), FaceDetectionParams())])[0].faces == ()


def test_unknown_model(store: ModelStore) -> None:
    """A model of another kind is refused when the node is made."""
    with pytest.raises(ConfigError, match="expected one of blazeface_full_range"):
        FaceDetection(NodeSettings(store, model="mobilefacenet"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"confidence_threshold": 1.1},
        {"nms_threshold": -0.1},
        {"min_face_size": -1},
        {"limit": 0},
        {"limit": 1001},
        {"effort": "lazy"},
        {"unknown": 1},
    ],
)
def test_wrong_parameters(wrong: dict[str, object]) -> None:
    """Parameters outside their range, and unknown ones, are refused."""
    with pytest.raises(ValidationError):
        FaceDetectionParams.model_validate(wrong)
