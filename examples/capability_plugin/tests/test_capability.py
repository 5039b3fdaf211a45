"""The capability as a host runs it: files in, results out, errors of the service's own kind."""

import io
from importlib.metadata import entry_points

import pytest
from PIL import Image, ImageCms
from pydantic import TypeAdapter, ValidationError

from cl_ml_serve_dominant_colours import (
    DominantColour,
    DominantColours,
    DominantColoursParams,
    DominantColoursResult,
)
from deployments.runtime.capability import ENTRY_POINT_GROUP, NodeSettings
from deployments.runtime.errors import CorruptMediaError
from deployments.runtime.models import ModelStore, load_catalogue
from deployments.runtime.picture import Picture
from deployments.runtime.random_media import ImageGenerator
from deployments.runtime.types import Media
from serve_app.settings import DEFAULT_CATALOGUE

PHOTO = ImageGenerator(size=(640, 480)).media()


def of_file(image: Image.Image, **options: object) -> Picture:
    """Encode without loss, as a client would send it."""
    buffer = io.BytesIO()
    image.save(buffer, "png", **options)
    return Picture(Media(buffer.getvalue(), "picture.png"))


@pytest.fixture
def capability() -> DominantColours:
    """Give the capability, loaded as a host does it."""
    capability = DominantColours(NodeSettings(ModelStore(load_catalogue(DEFAULT_CATALOGUE))))
    capability.load()
    return capability


def run(
    capability: DominantColours, picture: Picture, params: DominantColoursParams | None = None
) -> DominantColoursResult:
    """Run one request."""
    return capability.run_batch([((picture,), params or DominantColoursParams())])[0]


def test_entry_point() -> None:
    """The installed package offers the class under its own name."""
    (entry,) = entry_points(group=ENTRY_POINT_GROUP, name=DominantColours.name)
    assert DominantColours is entry.load()


def test_two_colours(capability: DominantColours) -> None:
    """A flag of three quarters and a quarter has two colours with these shares, exactly."""
    flag = Image.new("RGB", (400, 300), "#0b5d3b")
    flag.paste("#ffcc00", (0, 0, 100, 300))
    expected = (DominantColour("#0b5d3b", 0.75), DominantColour("#ffcc00", 0.25))
    assert expected == run(capability, of_file(flag)).colours


def test_colour_profile(capability: DominantColours) -> None:
    """Colours are sRGB, whatever profile the file has; a broken profile is ignored."""
    image = Image.new("RGB", (8, 8), "#336699")
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    expected = (DominantColour("#336699", 1.0),)
    assert expected == run(capability, of_file(image, icc_profile=srgb)).colours
    assert expected == run(capability, of_file(image, icc_profile=b"broken")).colours


@pytest.mark.parametrize("limit", [1, 5, 16])
def test_limit(capability: DominantColours, limit: int) -> None:
    """A photo gives as many colours as asked for."""
    found = run(capability, Picture(PHOTO), DominantColoursParams(limit=limit))
    assert limit == len(found.colours)


def test_batch_equals_singles(capability: DominantColours) -> None:
    """Requests do not change each other, and the same photo gives the same colours again."""
    pictures = [Picture(ImageGenerator(seed=seed).media()) for seed in (1, 2)]
    params = DominantColoursParams()
    batch = capability.run_batch([((picture,), params) for picture in pictures])
    assert batch == [run(capability, picture) for picture in pictures]


@pytest.mark.parametrize("params", [{"limit": 0}, {"limit": 17}, {"limit": "many"}, {"colours": 3}])
def test_wrong_parameters(params: dict[str, object]) -> None:
    """Parameters out of range and unknown ones are refused."""
    with pytest.raises(ValidationError):
        DominantColoursParams.model_validate(params)


def test_damaged(capability: DominantColours) -> None:
    """A file that is cut off is an error that says so; HTTP makes a 422 of it."""
    with pytest.raises(CorruptMediaError, match="cut off"):
        run(capability, Picture(Media(PHOTO.data[: len(PHOTO.data) // 2], "photo.jpg")))


def test_wire(capability: DominantColours) -> None:
    """The sample of the self-test runs, and its result has the form that HTTP shows."""
    (result,) = capability.run_batch([(capability.sample(), DominantColoursParams(limit=1))])
    (colour,) = TypeAdapter(DominantColoursResult).dump_python(result, mode="json")["colours"]
    assert {"hex": colour["hex"], "share": 1.0} == colour
    assert 7 == len(colour["hex"])
