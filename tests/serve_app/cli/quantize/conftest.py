"""A folder of portraits, and a machine's YAML with a model cache of its own."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from deployments.runtime.models import ModelStore, load_catalogue
from deployments.runtime.types import Media
from serve_app.cli.quantize import quantize
from tests.stand_ins import CLIP_IMAGE, CLIP_TEXT, DINO, write_stand_ins

PHOTOS = (
    "obama",
    "obama2",
    "obama3",
    "obama_partial_face",
    "obama_partial_face2",
    "biden",
    "astronaut",
    "chelsea",
)


@pytest.fixture
def photos(tmp_path: Path, photo: Callable[[str], Media]) -> Path:
    """A folder with seven portraits, a cat, and a text."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    for name in PHOTOS:
        media = photo(name)
        (folder / ("more" if name == "biden" else "") / f"{name}.img").write_bytes(media.data)
    (folder / "notes.txt").write_text("not a photo")
    return folder


@pytest.fixture
def machine(tmp_path: Path, store: ModelStore) -> Path:
    """A YAML whose cache has the face models and small stand-ins, for tests to write into."""
    (tmp_path / "stand_ins").mkdir()
    catalogue = write_stand_ins(tmp_path / "stand_ins")
    cache = tmp_path / "cache"
    for name in ("blazeface_full_range", "mobilefacenet"):
        place = store.path(name).parent
        shutil.copytree(place, cache / name / place.name)
    own = ModelStore(load_catalogue(catalogue), cache, offline=True)
    for name in (DINO, CLIP_IMAGE, CLIP_TEXT):
        own.pull(name)
    graph = {
        "face_detection": {"needs": ["image"]},
        "face_alignment": {"needs": ["image", "face_detection"]},
        "face_embedding": {"needs": ["face_alignment"]},
        "dino_embedding": {"needs": ["image"], "model": DINO},
        "clip_embedding": {"needs": ["image"], "model": CLIP_IMAGE},
        "clip_text_embedding": {"needs": ["texts"], "model": CLIP_TEXT},
    }
    models = {"catalogue": str(catalogue), "cache": str(cache)}
    application = {
        "import_path": "serve_app.app:build",
        "args": {"graph": graph, "models": models},
        "deployments": [],
    }
    path = tmp_path / "serve.yaml"
    path.write_text(yaml.safe_dump({"applications": [application]}, sort_keys=False))
    return path


Quantize = Callable[..., Result]


@pytest.fixture
def run(machine: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> Quantize:
    """Quantise a model of that machine with those photos."""
    # Wide enough that no table cell is folded.
    monkeypatch.setenv("COLUMNS", "160")

    def run(model: str, *options: object, calibration: Path = photos) -> Result:
        arguments: Sequence[object] = (model, "--calibration", calibration, "--config", machine)
        return CliRunner().invoke(quantize, [str(a) for a in (*arguments, *options)])

    return run
