"""The quality of a face."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from deployments.face_embedding.algo.quality import score, sharpness
from deployments.runtime.types import Media
from tests.deployments.faces_support import PORTRAITS, FaceChain, to_image, to_media

Photo = Callable[[str], Media]
shares = st.floats(0, 1)


@pytest.mark.parametrize("value", [0, 1, 128, 255])
def test_flat_crop(value: int) -> None:
    """A crop of one colour is not sharp, whichever it is."""
    assert sharpness(np.full((112, 112, 3), value, np.uint8)) == 0


def test_noise_is_sharp() -> None:
    """Much detail comes near 1 and never past it."""
    noise = np.random.default_rng(0).integers(1, 256, (112, 112, 3), dtype=np.uint8)
    assert 0.95 < sharpness(noise) < 1


def test_edge_of_the_picture_does_not_count() -> None:
    """Black where the crop reaches past the picture adds no sharpness."""
    ramp = np.linspace(60, 200, 112)
    crop = np.broadcast_to(ramp[:, None, None], (112, 112, 3)).astype(np.uint8)
    cut = crop.copy()
    cut[:, :30] = 0
    assert sharpness(cut) == pytest.approx(sharpness(crop), abs=0.02)


def test_blur_lowers_sharpness(chain: FaceChain, photo: Photo) -> None:
    """Each step of blur lowers the sharpness of each portrait, as the calibration says."""
    for name in PORTRAITS:
        crop = Image.fromarray(chain.align(photo(name)).crops[0])
        steps = [
            sharpness(np.asarray(crop.filter(ImageFilter.GaussianBlur(deviation))))
            for deviation in (0, 1, 1.5, 2, 3)
        ]
        assert steps == sorted(steps, reverse=True), name
        assert steps[0] > 0.9, name
        assert 0.6 < steps[1] < 0.85, name
        assert steps[4] < 0.25, name


def test_blurred_photo_scores_low(chain: FaceChain, photo: Photo) -> None:
    """A photo out of focus scores less than a third of the sharp one, at the edge as well."""
    for name in PORTRAITS:
        image = to_image(photo(name))
        (sharp,) = chain.embed(photo(name)).faces
        radius_px = 0.035 * sharp.quality.size_px
        blurred_media = to_media(image.filter(ImageFilter.GaussianBlur(radius_px)))
        (blurred,) = chain.embed(blurred_media).faces
        assert sharp.quality.score > 0.6, name
        assert blurred.quality.score < sharp.quality.score / 3, name


@pytest.mark.parametrize(
    ("sharp", "size_px", "confidence", "expected"),
    [
        (0, 200, 1, 0),
        (1, 200, 1, 1),
        (1, 64, 1, 1),
        (1, 32, 1, 0.5),
        (1, 0, 1, 0),
        (0.5, 32, 0.5, 0.125),
    ],
)
def test_score(sharp: float, size_px: float, confidence: float, expected: float) -> None:
    """The product of sharpness, confidence, and the share of a size that is enough."""
    assert score(sharp, size_px, confidence) == pytest.approx(expected)


@given(shares, st.floats(0, 10_000), shares)
def test_score_is_a_share(sharp: float, size_px: float, confidence: float) -> None:
    """The score is within 0 and 1, and no better than the worst of what it is made of."""
    value = score(sharp, size_px, confidence)
    assert 0 <= value <= min(sharp, confidence)
