"""Stand-ins: sizes as published, sound numbers, labels in the catalogue, the same bytes twice."""

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from click.testing import CliRunner
from tokenizers import Tokenizer

from benchmarks.stand_ins import cli
from benchmarks.stand_ins.catalogue import SUFFIX
from benchmarks.stand_ins.dinov2 import dinov2
from deployments.runtime.models import ModelStatus, ModelStore, load_catalogue
from serve_app.settings import DEFAULT_CATALOGUE
from tests.stand_ins import write_stand_ins


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write everything, as the command does."""
    folder = tmp_path_factory.mktemp("stand-ins")
    result = CliRunner().invoke(cli.main, [str(folder)], catch_exceptions=False)
    assert 0 == result.exit_code
    assert "dinov2_vits14_stand_in" in result.output
    return folder


@pytest.mark.parametrize("name", cli.GRAPHS)
def test_size(folder: Path, name: str) -> None:
    """A file is as large as the published one, within a third of a percent."""
    published = load_catalogue(DEFAULT_CATALOGUE)[name].size_bytes
    size_bytes = (folder / f"{name}{SUFFIX}.onnx").stat().st_size
    assert published == pytest.approx(size_bytes, rel=0.0033)


@pytest.mark.parametrize("name", cli.GRAPHS)
def test_contract(folder: Path, name: str) -> None:
    """Names, types and shapes are the published file's, and the numbers are sound."""
    contract = load_catalogue(DEFAULT_CATALOGUE)[name].contract
    assert contract is not None
    session = ort.InferenceSession(
        folder / f"{name}{SUFFIX}.onnx", providers=["CPUExecutionProvider"]
    )
    (given,), (made,) = session.get_inputs(), session.get_outputs()
    assert (contract.input.name, contract.outputs[0].name) == (given.name, made.name)
    assert list(contract.input.shape[1:]) == given.shape[1:]
    assert list(contract.outputs[0].shape[1:]) == made.shape[1:]
    random = np.random.default_rng(0)
    shape = (1, *given.shape[1:])
    tokens = given.type == "tensor(int64)"
    row = random.integers(0, 512, shape) if tokens else random.random(shape, np.float32)
    embedding = np.asarray(session.run(None, {given.name: row})[0])
    assert np.isfinite(embedding).all()
    assert 1e-3 < float(embedding.std()) < 1e3


def test_dinov2_is_fixed_at_one(folder: Path) -> None:
    """As in the published file; the store frees the batch when it installs it."""
    path = folder / f"dinov2_vits14{SUFFIX}.onnx"
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert [1, 3, 224, 224] == session.get_inputs()[0].shape


def test_tokenizer(folder: Path) -> None:
    """Start and end are CLIP's own ids, within the text tower's vocabulary."""
    tokenizer = Tokenizer.from_file(str(folder / f"{cli.TOKENIZER}{SUFFIX}.json"))
    ids = tokenizer.encode("a cat").ids
    assert (49406, 49407) == (ids[0], ids[-1])
    assert 6 == len(ids)


def test_catalogue(folder: Path) -> None:
    """The shipped entries stand unchanged, and each stand-in says what it is and is no default."""
    shipped, catalogue = load_catalogue(DEFAULT_CATALOGUE), load_catalogue(folder / "models.yaml")
    names = [name + SUFFIX for name in (*cli.GRAPHS, cli.TOKENIZER)]
    assert [*shipped.entries, *names] == list(catalogue.entries)
    assert list(shipped) == list(catalogue)[: len(shipped.entries)]
    assert shipped.default_names == catalogue.default_names
    for name in names:
        assert catalogue[name].stand_in
        assert catalogue[name].title.startswith("STAND-IN for ")
    assert (cli.TOKENIZER + SUFFIX,) == catalogue[f"mobileclip_s0_text{SUFFIX}"].needs


def test_install(folder: Path, tmp_path: Path) -> None:
    """They install like any model, without the consent that the real one needs."""
    name = f"mobileclip_s0_image{SUFFIX}"
    store = ModelStore(load_catalogue(folder / "models.yaml"), tmp_path, offline=True)
    assert store.pull(name) == store.path(name)
    assert ModelStatus.INSTALLED is store.status(name)


def test_same_bytes(tmp_path: Path) -> None:
    """The same code writes the same files, large and tiny."""
    assert dinov2(blocks=1).SerializeToString() == dinov2(blocks=1).SerializeToString()
    contents: list[dict[str, bytes]] = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        write_stand_ins(tmp_path / name)
        contents.append({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()})
    assert contents[0] == contents[1]
