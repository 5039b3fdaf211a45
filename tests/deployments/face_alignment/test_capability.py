"""Face alignment on photographs."""

from collections.abc import Callable

import numpy as np
from PIL import Image

from deployments.face_alignment import FaceAlignment, FaceAlignmentParams
from deployments.runtime.picture import Picture
from deployments.runtime.random_media import ImageGenerator
from deployments.runtime.types import AlignedFaces, Box, DetectedFaces, Face, Media
from tests.deployments.faces_support import PORTRAITS, FaceChain, to_image, to_media

Photo = Callable[[str], Media]


def align(alignment: FaceAlignment, picture: Picture, *faces: Face) -> AlignedFaces:
    """Align faces of a picture."""
    detected = DetectedFaces(faces, *picture.size)
    return alignment.run_batch([((picture, detected), FaceAlignmentParams())])[0]


def test_no_faces(chain: FaceChain) -> None:
    """No faces give no crops, in the right shape, and the picture is not decoded."""
    picture = Picture(ImageGenerator().media())
    aligned = align(chain.alignment, picture)
    assert aligned.faces == ()
    assert aligned.crops.shape == (0, 112, 112, 3)
    assert aligned.crops.dtype == np.uint8
    assert (aligned.image_width, aligned.image_height) == (640, 480)
    assert picture._decoded == {}


def test_face_is_upright_in_its_place(chain: FaceChain, photo: Photo) -> None:
    """Faces found again in their own crops have their eyes where the template has them."""
    for name in PORTRAITS:
        aligned = chain.align(photo(name))
        crop = Image.fromarray(aligned.crops[0])
        (face,) = chain.detect(to_media(crop), cropped=True).faces
        right, left = face.landmarks["right_eye"], face.landmarks["left_eye"]
        assert np.hypot(right[0] - 0.346, right[1] - 0.466) < 0.06, name
        assert np.hypot(left[0] - 0.661, left[1] - 0.464) < 0.06, name


def test_turned_photo_gives_the_same_crop(chain: FaceChain, photo: Photo) -> None:
    """A photo on its side, with landmarks to match, gives the crop of the upright photo."""
    image = to_image(photo("obama"))
    upright, turned = (Picture(to_media(i)) for i in (image, image.rotate(90, expand=True)))
    (face,) = chain.detect(photo("obama")).faces
    turned_face = Face(
        face.box,
        face.confidence,
        {name: (y, 1 - x) for name, (x, y) in face.landmarks.items()},
    )
    one = align(chain.alignment, upright, face).crops[0].astype(int)
    other = align(chain.alignment, turned, turned_face).crops[0]
    assert np.abs(one - other).mean() < 3


def test_face_without_landmarks(chain: FaceChain, photo: Photo) -> None:
    """A face with a box alone gives the picture in its box."""
    picture = Picture(photo("astronaut"))
    aligned = align(chain.alignment, picture, Face(Box(0, 0, 1, 1), 0.0, {}))
    small = picture.rgb().resize((112, 112), Image.Resampling.HAMMING)
    assert np.abs(aligned.crops[0].astype(int) - np.asarray(small)).mean() < 8


def test_face_without_anything(chain: FaceChain) -> None:
    """A face without landmarks and without an area gives a black crop, beside the others."""
    picture = Picture(ImageGenerator().media())
    aligned = align(
        chain.alignment,
        picture,
        Face(Box(0.5, 0.5, 0.5, 0.5), 0.5, {}),
        Face(Box(0.2, 0.2, 0.6, 0.6), 0.5, {}),
    )
    assert not aligned.crops[0].any()
    assert aligned.crops[1].any()


def test_decodes_no_more_than_needed(chain: FaceChain) -> None:
    """A large face is cut from a JPEG decoded at a fraction, a small one from all of it."""
    media = ImageGenerator(size=(2400, 1800)).media()
    for box, expected_px in ((Box(0.2, 0.2, 0.6, 0.6), 1200), (Box(0.5, 0.5, 0.53, 0.53), 2400)):
        picture = Picture(media)
        align(chain.alignment, picture, Face(box, 0.9, {}))
        assert [max(image.size) for image in picture._decoded.values()] == [expected_px]


def test_batch_equals_singles(chain: FaceChain, photo: Photo) -> None:
    """Photos in one batch give what each gives alone."""
    requests = []
    for name in ("obama", "coffee", "biden"):
        picture = Picture(photo(name))
        requests.append(((picture, chain.detect(photo(name))), FaceAlignmentParams()))
    together = chain.alignment.run_batch(requests)
    for request, got in zip(requests, together, strict=True):
        expected = chain.alignment.run_batch([request])[0]
        assert expected.faces == got.faces
        np.testing.assert_array_equal(got.crops, expected.crops)


def test_sample(chain: FaceChain) -> None:
    """The self-test's input gives one crop."""
    aligned = chain.alignment.run_batch([(chain.alignment.sample(), FaceAlignmentParams())])[0]
    assert aligned.crops.shape == (1, 112, 112, 3)
