"""The crops of both models of pictures, against golden arrays of the reference transforms."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from deployments.clip_embedding import capability as clip
from deployments.dino_embedding import capability as dino
from deployments.runtime.embeddings import centre_crop, to_input
from deployments.runtime.models import load_catalogue
from deployments.runtime.picture import Picture
from deployments.runtime.types import Media
from serve_app.settings import DEFAULT_CATALOGUE
from tests.deployments.dino_embedding.reference import SIZES, golden_path, picture, reference_crop

Photo = Callable[[str], Media]

CROPS = {
    "dino_embedding": (dino.RESIZE_PX, dino.CROP_PX, dino.RESAMPLE, "bicubic"),
    "clip_embedding": (clip.SIDE_PX, clip.SIDE_PX, clip.RESAMPLE, "bilinear"),
}
MODELS = {"dino_embedding": "dinov2_vits14", "clip_embedding": "mobileclip_s0_image"}

# torchvision's Normalize after ToTensor; MobileCLIP has none.
NORMALIZE = {
    "dino_embedding": ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    "clip_embedding": ([0.0, 0.0, 0.0], [1.0, 1.0, 1.0]),
}


def encoded(pixels: NDArray[np.uint8]) -> Picture:
    """Encode (H, W, 3) uint8 without loss."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", compress_level=1)
    return Picture(Media(buffer.getvalue(), "made.png"))


def contract_scaling(capability: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return what the catalogue says is subtracted from pixels, and what they are divided by."""
    contract = load_catalogue(DEFAULT_CATALOGUE)[MODELS[capability]].contract
    assert contract is not None
    return np.array(contract.input.subtract, np.float32), np.array(
        contract.input.divide, np.float32
    )


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("capability", CROPS)
def test_golden_tensors(capability: str, name: str) -> None:
    """What the model is given is what torchvision gives, to the last bit of every pixel."""
    resize_px, crop_px, resample, _ = CROPS[capability]
    crop = centre_crop(encoded(picture(SIZES[name])), resize_px, crop_px, resample)
    with np.load(golden_path(capability)) as golden:
        expected = golden[name].astype(np.int16)
    # Beyond 16:1 only the crop's own place is resized, which may round otherwise.
    width, height = SIZES[name]
    tolerance = 1 if max(width, height) > 16 * min(width, height) else 0
    assert np.abs(expected - crop).max() <= tolerance
    mean, deviation = (np.array(row).reshape(3, 1, 1) for row in NORMALIZE[capability])
    tensor = (crop.transpose(2, 0, 1) / 255 - mean) / deviation
    got = to_input([crop], *contract_scaling(capability))
    np.testing.assert_allclose(got[0], tensor, atol=2e-6)


def test_golden_arrays_are_the_references() -> None:
    """The stored arrays are what the reference in this folder computes."""
    with np.load(golden_path("dino_embedding")) as golden:
        for name in ("tiny", "portrait"):
            expected = reference_crop(picture(SIZES[name]), 256, 224, "bicubic")
            np.testing.assert_array_equal(expected, golden[name])


@pytest.mark.parametrize("name", ["biden", "obama3"])
@pytest.mark.parametrize("capability", CROPS)
def test_scaled_decoding(photo: Photo, capability: str, name: str) -> None:
    """A JPEG decoded at a fraction of its scale gives nearly the tensor of the full decoding."""
    resize_px, crop_px, resample, kernel = CROPS[capability]
    media = Picture(photo(name))
    full = reference_crop(np.asarray(media.rgb()), resize_px, crop_px, kernel)
    scaled = centre_crop(media, resize_px, crop_px, resample)
    assert not np.array_equal(full, scaled)  # or nothing was scaled
    difference = np.abs(full.astype(np.int16) - scaled)
    assert difference.mean() < 1.5
    mean, deviation = contract_scaling(capability)
    a, b = (to_input([crop], mean, deviation).ravel() for crop in (full, scaled))
    assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) > 0.999
