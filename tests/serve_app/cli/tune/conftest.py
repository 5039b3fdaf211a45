"""A small file with the face nodes, and what its requests bring."""

from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployments.runtime.models import ModelStore
from deployments.runtime.types import Media, Upload
from serve_app.config import ServeFile, load_file

GRAPH: dict[str, Any] = {
    "face_detection": {"needs": ["image"]},
    "face_alignment": {"needs": ["image", "face_detection"]},
    "face_embedding": {"needs": ["face_alignment"]},
}

WriteFile = Callable[..., ServeFile]


@pytest.fixture
def write_file(tmp_path: Path, store: ModelStore) -> WriteFile:
    """Give a function that writes a file with ``deployments`` and more ``args``."""
    del store  # the models are there now

    def write(*deployments: dict[str, Any], **args: Any) -> ServeFile:  # noqa: ANN401 - the YAML's args
        application = {
            "import_path": "serve_app.app:build",
            "args": {"graph": GRAPH, **args},
            "deployments": list(deployments),
        }
        path = tmp_path / "my.yaml"
        path.write_text(yaml.safe_dump({"applications": [application]}, sort_keys=False))
        return load_file(path)

    return write


@pytest.fixture
def upload() -> Upload:
    """Give the photo that comes along, which has one face, and a text."""
    photo = files("serve_app.cli").joinpath("sample.jpg").read_bytes()
    return Upload(Media(photo, "sample.jpg"), ("a red car",))
