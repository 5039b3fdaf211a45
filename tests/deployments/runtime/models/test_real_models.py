"""The default models and the test photographs, as anyone fetches them."""

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import deployments
from deployments.runtime.models import ModelEntry, ModelStatus, ModelStore, load_catalogue
from deployments.runtime.onnx_session import OnnxSession
from serve_app.settings import DEFAULT_CATALOGUE

PHOTOS = Path(__file__).parents[3] / "photos.yaml"
DEFAULT_NAMES = ("blazeface_full_range", "blazeface_short_range", "mobilefacenet")

CONVERT = """
import sys
from pathlib import Path
from deployments.runtime.models import load_catalogue
from deployments.runtime.models._convert import convert
convert(load_catalogue(Path(sys.argv[1]))[sys.argv[2]], Path(sys.argv[3]), Path(sys.argv[4]))
"""


@pytest.fixture(scope="module")
def store() -> ModelStore:
    """The store of this machine with the default models installed."""
    store = ModelStore(load_catalogue(DEFAULT_CATALOGUE))
    for name in DEFAULT_NAMES:
        store.pull(name)
    return store


@pytest.mark.parametrize("name", DEFAULT_NAMES)
def test_model_fulfils_contract(store: ModelStore, name: str) -> None:
    """Each default model takes and gives what the catalogue says."""
    contract = store.catalogue[name].contract
    assert contract is not None
    session = OnnxSession(store.path(name))
    assert contract.input.name == session.input_name
    assert contract.input.shape == session.input_shape
    assert tuple(output.name for output in contract.outputs) == session.output_names
    assert tuple(output.shape for output in contract.outputs) == session.output_shapes


@pytest.mark.parametrize("name", DEFAULT_NAMES)
def test_batch_equals_singles(store: ModelStore, name: str) -> None:
    """A row's result does not depend on the rows beside it."""
    session = OnnxSession(store.path(name))
    rng = np.random.default_rng(3)
    batch = rng.uniform(-1, 1, (5, *(size or 1 for size in session.input_shape[1:])))
    batch = batch.astype(np.float32)
    singles = [session.run(batch[i : i + 1]) for i in range(5)]
    for got, *rows in zip(session.run(batch), *singles, strict=True):
        expected = np.concatenate(rows)
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("seed", ["0", "1"])
def test_conversion_is_repeatable(store: ModelStore, tmp_path: Path, seed: str) -> None:
    """Python's hash seed, which shuffles the converter's sets, does not reach the file."""
    entry: ModelEntry = store.catalogue["blazeface_short_range"]
    source = store.cache / entry.name / entry.sha256[:16] / entry.source_filename
    if not source.is_file():
        pytest.skip("the model was imported without its source file")
    target = tmp_path / "model.onnx"
    subprocess.run(
        [sys.executable, "-c", CONVERT, DEFAULT_CATALOGUE, entry.name, source, target],
        check=True,
        cwd=Path(deployments.__file__).parents[1],
        env={**os.environ, "PYTHONHASHSEED": seed},
    )
    assert store.path(entry.name).read_bytes() == target.read_bytes()


def test_photos() -> None:
    """Every test photograph can be fetched, is verified and is a picture."""
    store = ModelStore(load_catalogue(PHOTOS))
    results = store.pull_many(store.catalogue.entries)
    assert [] == [result for result in results.values() if not isinstance(result, Path)]
    assert {ModelStatus.INSTALLED} == set(store.verify().values())
    for name in store.catalogue.entries:
        with Image.open(io.BytesIO(store.path(name).read_bytes())) as image:
            image.load()
            assert min(image.size) >= 200
