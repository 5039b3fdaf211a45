"""The capability, as a function."""

import pytest

from deployments.image_conversion import ConvertedImage, ImageConversion, ImageConversionParams
from deployments.runtime.asset import Asset
from deployments.runtime.capability import NodeSettings
from deployments.runtime.models import ModelStore
from deployments.runtime.types import Media
from tests.deployments.image_conversion.support import Convert


@pytest.fixture(scope="session")
def convert(store: ModelStore) -> Convert:
    """Convert one file: ``convert(file, **params)``."""
    node = ImageConversion(NodeSettings(store))

    def run(file: Asset | Media | bytes, **params: object) -> ConvertedImage:
        media = Media(file) if isinstance(file, bytes) else file
        asset = media if isinstance(media, Asset) else Asset(media)
        return node.run_batch([((asset,), ImageConversionParams.model_validate(params))])[0]

    return run
