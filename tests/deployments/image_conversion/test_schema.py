"""The parameters and the result of image conversion."""

import pytest
from pydantic import TypeAdapter, ValidationError

from deployments.image_conversion import ConvertedImage, ImageConversionParams
from deployments.image_conversion.algo.targets import TARGETS
from tests.deployments.image_conversion.support import FORMATS


def test_defaults() -> None:
    """Only the format must be given."""
    params = ImageConversionParams.model_validate({"format": "png"})
    assert (85, False, "keep") == (params.quality, params.lossless, params.metadata)
    assert (255, 255, 255) == params.background_rgb


@pytest.mark.parametrize("name", FORMATS)
def test_formats(name: str) -> None:
    """Each format is accepted, and known to the table of formats."""
    assert name == ImageConversionParams.model_validate({"format": name}).format
    assert name in TARGETS


def test_alias() -> None:
    """JPEG has two names."""
    assert TARGETS["jpg"] is TARGETS["jpeg"]
    assert set(FORMATS) == set(TARGETS)


@pytest.mark.parametrize(
    ("background", "expected"),
    [
        ("#102030", (16, 32, 48)),
        ("#fff", (255, 255, 255)),
        ("rebeccapurple", (102, 51, 153)),
        ("Red", (255, 0, 0)),
        ("rgb(1, 2, 3)", (1, 2, 3)),
    ],
)
def test_colours(background: str, expected: tuple[int, int, int]) -> None:
    """Colours are given as on web pages."""
    params = ImageConversionParams.model_validate({"format": "jpg", "background": background})
    assert expected == params.background_rgb


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({}, "format"),
        ({"format": ""}, "'png', 'jpg', 'jpeg'"),
        ({"format": "psd"}, "'avif' or 'heic'"),
        ({"format": "jpg", "quality": 0}, "greater than or equal to 1"),
        ({"format": "jpg", "quality": 101}, "less than or equal to 100"),
        ({"format": "jpg", "quality": "best"}, "integer"),
        ({"format": "jpg", "background": ""}, "expected an opaque colour"),
        ({"format": "jpg", "background": "octarine"}, "got 'octarine'"),
        ({"format": "jpg", "background": "#12345"}, "expected an opaque colour"),
        ({"format": "jpg", "background": "#11223344"}, "expected an opaque colour"),
        ({"format": "jpg", "background": "red" * 100}, "expected an opaque colour"),
        ({"format": "jpg", "metadata": "some"}, "'keep' or 'strip'"),
        ({"format": "jpg", "lossless": True}, "jpg is written with losses only"),
        ({"format": "heic", "lossless": True}, "heic is written with losses only"),
        ({"format": "png", "x": 1}, "Extra inputs"),
    ],
)
def test_wrong_parameters(wrong: dict[str, object], message: str) -> None:
    """Wrong parameters are refused with what was expected."""
    with pytest.raises(ValidationError, match=message):
        ImageConversionParams.model_validate(wrong)


def test_wire() -> None:
    """A result goes to JSON and back; the bytes are base64 there."""
    adapter = TypeAdapter(ConvertedImage)
    result = ConvertedImage(b"\x89PNG", "image/png", "a.png", 3, 2, 1)
    wire = adapter.dump_python(result, mode="json")
    assert ("iVBORw==", 3, 2, 1) == tuple(
        wire[key] for key in ("data", "width", "height", "frame_count")
    )
