"""``cl-serve quantize`` from a folder of photos to results of the variant that it kept."""

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner, Result
from onnx import TensorProto
from PIL import Image
from rich.console import Console

from benchmarks.stand_ins.builder import GraphBuilder
from benchmarks.stand_ins.catalogue import write_catalogue
from deployments.dino_embedding import DinoEmbedding, DinoEmbeddingParams
from deployments.face_detection import FaceDetection, FaceDetectionParams
from deployments.runtime.capability import NodeSettings
from deployments.runtime.errors import (
    ConfigError,
    ModelNotInstalledError,
    ModelNotValidatedError,
    UnknownModelError,
)
from deployments.runtime.models import ModelStore
from deployments.runtime.picture import Picture
from deployments.runtime.types import Media
from serve_app.app import check_graph
from serve_app.cli.check import check
from serve_app.cli.models import models
from serve_app.cli.quantize.photos import Jury, choose, prepare
from serve_app.cli.stack import install
from serve_app.config import load_file
from serve_app.stores import open_models
from tests.deployments.faces_support import cosine, iou
from tests.deployments.runtime.variants_support import attempt, keep
from tests.stand_ins import CLIP_IMAGE, CLIP_TEXT, DINO

Quantize = Callable[..., Result]


def store_of(machine: Path) -> ModelStore:
    """Open the store of a machine's YAML."""
    return open_models(load_file(machine).args.models)


def change(machine: Path, node: str, **spec: object) -> int:
    """Change a node of a machine's YAML; return the line of its model."""
    raw = yaml.safe_load(machine.read_text(encoding="utf-8"))
    raw["applications"][0]["args"]["graph"][node].update(spec)
    text = yaml.safe_dump(raw, sort_keys=False)
    machine.write_text(text)
    return next(i for i, row in enumerate(text.splitlines(), 1) if f"model: {spec['model']}" in row)


def coarse(folder: Path) -> Path:
    """Write a stand-in that no 8 bits are enough for, and a catalogue with it.

    One input of its only layer is a thousand times as large as the others and has no weight.
    """
    graph = GraphBuilder("coarse")
    pooled = graph.op("AveragePool", "pixel_values", kernel_shape=[32, 32], strides=[32, 32])
    scale = np.ones(192, np.float32)
    scale[0] = 1000
    weight = np.random.default_rng(0).normal(size=(192, 512)).astype(np.float32)
    weight[0] = 0
    x = graph.op("Mul", graph.op("Flatten", pooled), graph.array(scale))
    model = graph.finish(
        graph.op("MatMul", x, graph.array(weight)),
        input_=("pixel_values", TensorProto.FLOAT, [3, 256, 256]),
        named=("image_embeds", [512]),
        batch=None,
    )
    folder.mkdir()
    (folder / "coarse.onnx").write_bytes(model.SerializeToString())
    return write_catalogue(folder, {"mobileclip_s0_image": "coarse.onnx"})


def test_faces(run: Quantize, machine: Path, photo: Callable[[str], Media]) -> None:
    """The detector's weights in float16 find what it finds in float32, under their own name."""
    result = run("blazeface_full_range", "--method", "float16")
    assert 0 == result.exit_code, result.output
    assert "8 photos: 6 to calibrate with, 2 held out to validate on" in result.output
    assert "These are few" in result.output
    assert "face_detection: {…, model: blazeface_full_range@float16}" in result.output
    store = store_of(machine)
    found = {}
    for model in ("blazeface_full_range", "blazeface_full_range@float16"):
        detection = FaceDetection(NodeSettings(store, model=model, provider="cpu"))
        detection.load()
        request = ((Picture(photo("astronaut")),), FaceDetectionParams())
        (found[model],) = detection.run_batch([request])[0].faces
    boxes = [face.box for face in found.values()]
    assert iou(*boxes) > 0.98


def test_aligned_faces(run: Quantize, machine: Path) -> None:
    """A face model is calibrated with faces that the nodes before it find; a cat has none."""
    result = run("mobilefacenet", "--method", "float16", "--method", "int8_dynamic")
    assert 0 == result.exit_code, result.output
    assert "8 photos: 5 to calibrate with, 2 held out to validate on, 1 with nothing" in (
        result.output
    )
    report = store_of(machine).variants("mobilefacenet").report("float16")
    assert report is not None
    assert (5, 2) == (report.calibration_photos, report.held_out_photos)
    assert ["float16", "int8_dynamic"] == [made.variant for made in report.attempts]
    assert "no matrix product" in report.attempts[1].verdict


def test_int8(run: Quantize, machine: Path, photo: Callable[[str], Media]) -> None:
    """An INT8 variant is served under its full name, and agrees with its model."""
    result = run(DINO, "--method", "int8", "--method", "int8_dynamic", "--method", "float16")
    assert 0 == result.exit_code, result.output
    store = store_of(machine)
    (report,) = store.variants(DINO).reports()
    assert 3 == len(report.attempts)
    assert (report.variant == "int8") == (report.kept.layers > 0)
    embeddings = []
    for model in (DINO, report.name):
        capability = DinoEmbedding(NodeSettings(store, model=model, provider="cpu"))
        capability.load()
        request = ((Picture(photo("coffee")),), DinoEmbeddingParams())
        (embedded,) = capability.run_batch([request])
        assert model == embedded.model
        embeddings.append(embedded.embedding)
    assert cosine(*embeddings) > 0.97


def test_nothing_passes(run: Quantize, machine: Path) -> None:
    """A variant that disagrees is kept only where that is asked for, and then said to be wrong."""
    raw = yaml.safe_load(machine.read_text(encoding="utf-8"))
    raw["applications"][0]["args"]["models"]["catalogue"] = str(coarse(machine.with_name("coarse")))
    machine.write_text(yaml.safe_dump(raw))
    store = store_of(machine)
    store.pull(CLIP_IMAGE)
    refused = run(CLIP_IMAGE, "--method", "int8")
    assert 1 == refused.exit_code
    assert f"no variant of {CLIP_IMAGE} may be served" in refused.output
    assert [] == store.variants(CLIP_IMAGE).reports()
    kept = run(CLIP_IMAGE, "--method", "int8", "--keep-unvalidated")
    assert 0 == kept.exit_code, kept.output
    assert "it needs allow_unvalidated: true" in kept.output
    with pytest.raises(ModelNotValidatedError):
        store.path(f"{CLIP_IMAGE}@int8")


def test_list_and_verify(run: Quantize, machine: Path) -> None:
    """The list shows what was kept with its figures; verify hashes it."""
    run("blazeface_full_range", "--method", "float16")
    store = store_of(machine)
    options = ["--catalogue", str(store.catalogue.path), "--cache", str(store.cache)]
    listed = CliRunner().invoke(models, [*options, "list"]).output
    (line,) = (line for line in listed.splitlines() if "@float16" in line)
    assert "recall 1.0000" in line
    assert "1.1 MB" in line
    assert "passed" in line
    variant = store.path("blazeface_full_range@float16")
    assert "installed      blazeface_full_range@float16" in (
        CliRunner().invoke(models, [*options, "verify"]).output
    )
    variant.write_bytes(b"?")
    verified = CliRunner().invoke(models, [*options, "verify"])
    assert 1 == verified.exit_code
    command = "cl-serve quantize blazeface_full_range --calibration FOLDER --method float16"
    assert command in verified.output
    assert "corrupt" in CliRunner().invoke(models, [*options, "list"]).output
    exported = CliRunner().invoke(models, [*options, "export", str(machine.with_name("m.tar"))])
    assert (0, False) == (exported.exit_code, "@" in exported.output)


def test_selecting_one_that_failed(machine: Path) -> None:
    """A variant that failed is refused with its line, unless the node allows it."""
    store = store_of(machine)
    keep(store, DINO, store.path(DINO), attempt("int8", cosine=0.5))
    line = change(machine, "dino_embedding", model=f"{DINO}@int8")
    with pytest.raises(ConfigError) as raised:
        check_graph(load_file(machine), store)
    told = str(raised.value)
    key = "applications[0].args.graph.dino_embedding.model"
    assert told.startswith(f"{machine}:{line}: {key}: '{DINO}@int8' may not be served")
    assert "mean cosine 0.5000, at least 0.99 is right" in told
    assert "allow_unvalidated: true" in told
    change(machine, "dino_embedding", model=f"{DINO}@int8", allow_unvalidated=True)
    assert f"{DINO}@int8" == check_graph(load_file(machine), store)["dino_embedding"].model


def test_selecting_one_that_is_missing(machine: Path) -> None:
    """A variant that is not here is no mistake of the file: `check` says how to make it."""
    change(machine, "dino_embedding", model=f"{DINO}@int8")
    result = CliRunner().invoke(check, [str(machine)])
    assert 0 == result.exit_code, result.output
    command = f"cl-serve quantize {DINO} --calibration FOLDER --method int8 --config {machine}"
    assert command in result.output
    store = store_of(machine)
    with pytest.raises(ModelNotInstalledError, match="has not been made on this machine"):
        DinoEmbedding(NodeSettings(store, model=f"{DINO}@int8")).load()


def test_start_without_the_variant(machine: Path) -> None:
    """`up` tells how to make a variant that is not here, and starts what can be started."""
    change(machine, "dino_embedding", model=f"{DINO}@int8")
    file = load_file(machine)
    store = store_of(machine)
    printed = io.StringIO()
    install(store, check_graph(file, store), Console(file=printed, width=40))
    command = f"cl-serve quantize {DINO} --calibration FOLDER --method int8"
    assert f"{command}. What needs it answers 503 until then." in printed.getvalue()
    keep(store, DINO, store.path(DINO), attempt("int8"))
    printed.truncate(0)
    install(store, check_graph(file, store), Console(file=printed, width=200))
    assert "int8" not in printed.getvalue()


def test_list_of_outdated(machine: Path) -> None:
    """A variant of a file that is no longer in use is listed as such."""
    store = store_of(machine)
    keep(store, DINO, store.path(DINO), attempt("int8"))
    report = store.cache / DINO / "variants" / "int8.json"
    before = store.variants(DINO).base_sha256
    report.write_text(report.read_text().replace(before, "0" * 64))
    options = ["--catalogue", str(store.catalogue.path), "--cache", str(store.cache)]
    listed = CliRunner(env={"COLUMNS": "160"}).invoke(models, [*options, "list"])
    assert "file has changed since" in listed.output


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        ("mobilefacenet@int8", ConfigError, "expected a model, got a variant"),
        ("mobilefacenett", UnknownModelError, "did you mean mobilefacenet"),
        ("dinov2_vits14", ModelNotInstalledError, "cl-serve models pull dinov2_vits14"),
        (CLIP_TEXT, ConfigError, "takes texts: expected a model that looks at photos"),
        ("mobileclip_s0_tokenizer_stand_in", ConfigError, "no node of the graph can run"),
    ],
)
def test_wrong_model(run: Quantize, model: str, error: type[Exception], message: str) -> None:
    """What can't be quantised is told, with what can."""
    result = run(model)
    assert isinstance(result.exception, error)
    assert message in str(result.exception)


def test_few_photos(run: Quantize, tmp_path: Path) -> None:
    """Photos without a face are of no use for a face model, and the message says how many are."""
    folder = tmp_path / "landscapes"
    folder.mkdir()
    with pytest.raises(ConfigError, match="expected a folder of photos, found none"):
        raise run("mobilefacenet", calibration=folder).exception or AssertionError
    noise = np.random.default_rng(0).integers(0, 255, (8, 64, 64, 3), np.uint8)
    for number, pixels in enumerate(noise):
        Image.fromarray(pixels).save(folder / f"{number}.png")
    with pytest.raises(ConfigError, match="0 of 8 photos give face_embedding something to do"):
        raise run("mobilefacenet", calibration=folder).exception or AssertionError
    with pytest.raises(ConfigError, match="no face was found in the photos held out"):
        raise run("blazeface_full_range", calibration=folder).exception or AssertionError


def test_damaged_photo(run: Quantize, photos: Path) -> None:
    """A photo that can't be read is left out."""
    whole = (photos / "chelsea.img").read_bytes()
    (photos / "chelsea.img").write_bytes(whole[: len(whole) // 2])
    result = run("blazeface_full_range", "--method", "float16")
    assert "8 photos: 5 to calibrate with, 2 held out to validate on, 1 with nothing" in (
        result.output
    )


class _Stubborn(DinoEmbedding):
    """A capability that opens the model of the store whatever its settings say."""

    def load(self) -> None:
        self.settings = NodeSettings(self.settings.store, model=self.settings.model)
        super().load()


def test_capability_that_opens_its_model_itself(machine: Path, photos: Path) -> None:
    """A capability in which no other graph can be tried is told what it should do."""
    store = store_of(machine)
    graph = check_graph(load_file(machine), store)
    node = replace(graph["dino_embedding"], capability=_Stubborn)
    works = prepare(choose(photos, 6), graph, node, store, lambda: None).works
    with pytest.raises(ConfigError, match=r"load calls self\.settings\.open_session"):
        Jury(node, store, DINO, works)
