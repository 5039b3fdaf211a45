"""Fixtures for all tests: the default models, the photographs, and the face chain on them."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

from deployments.runtime.models import ModelStore, load_catalogue
from deployments.runtime.types import Media

if TYPE_CHECKING:
    from tests.deployments.faces_support import FaceChain

TESTS = Path(__file__).parent

# A property that takes long on a busy machine is not wrong.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


@pytest.fixture(scope="session")
def store() -> ModelStore:
    """The store of this machine, with the default models installed."""
    store = ModelStore(load_catalogue(TESTS.parent / "config" / "models.yaml"))
    for name in store.catalogue.default_names:
        store.pull(name)
    return store


@pytest.fixture(scope="session")
def photo() -> Callable[[str], Media]:
    """Photographs by their name in ``photos.yaml``, as uploads."""
    photos = ModelStore(load_catalogue(TESTS / "photos.yaml"))

    def upload(name: str) -> Media:
        path = photos.pull(name)
        return Media(path.read_bytes(), path.name)

    return upload


@pytest.fixture(scope="session")
def chain(store: ModelStore) -> "FaceChain":
    """Detection, alignment and embedding with their default models, one after another."""
    from tests.deployments.faces_support import FaceChain  # noqa: PLC0415 - only face tests load it

    return FaceChain(store)
