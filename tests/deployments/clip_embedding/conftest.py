"""The stand-ins of this machine's tests, installed."""

import pytest

from deployments.runtime.models import ModelStore
from tests.stand_ins import install_stand_ins


@pytest.fixture(scope="package")
def stand_ins(tmp_path_factory: pytest.TempPathFactory) -> ModelStore:
    """Install the tiny stand-ins for DINOv2 and MobileCLIP."""
    return install_stand_ins(tmp_path_factory.mktemp("stand-ins"))
