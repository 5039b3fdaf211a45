"""``python -m benchmarks.graphs``: what the conversion of a model gains over the straight one.

One thread, one picture at a time, the same session settings for all forms, which take turns within
one run, so that a slow moment of the machine falls on all of them. CPU time is measured, which
other processes disturb least. DINOv2 is the stand-in of its architecture: its times mean something
and its embeddings don't, so its cosine says how far the forms agree, not how good they are.
"""

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnxruntime.quantization import QuantType, quantize_dynamic
from rich.console import Console
from rich.table import Table

from benchmarks.errors import BenchmarkError
from benchmarks.stand_ins.dinov2 import dinov2
from deployments.runtime.embeddings import to_input
from deployments.runtime.models import ModelEntry, ModelStore, load_catalogue
from deployments.runtime.models._convert import convert
from deployments.runtime.onnx_session import OnnxSession
from deployments.runtime.random_media import ImageGenerator
from serve_app.settings import DEFAULT_CATALOGUE

STRAIGHT, SHIPPED, DYNAMIC_INT8 = "straight", "shipped", "shipped, dynamic INT8"

_FOR_SPEED = {"prelu_as_depthwise", "merge_convolutions", "fold_constants", "fuse_transformer"}
"""Steps that a straight conversion lacks; the others are there so that the graph can be used."""

_PICTURES = 6
_ROUNDS = 5


def measure() -> list[dict[str, Any]]:
    """Compare the forms of MobileFaceNet and of DINOv2's stand-in; takes about 40 s.

    Returns:
        For each model and form ``model``, ``form``, ``ms_per_image`` (median CPU time),
        ``ratio`` (how many times as fast as the straight form) and ``cosine`` (the mean of its
        embeddings with those of the straight form).

    Raises:
        BenchmarkError: the source file of MobileFaceNet is not on this machine.
        ModelError: MobileFaceNet can't be installed.

    """
    store = ModelStore(load_catalogue(DEFAULT_CATALOGUE))
    with tempfile.TemporaryDirectory() as folder:
        return [
            *_compare(_mobilefacenet(store, Path(folder))),
            *_compare(_dinov2(store, Path(folder))),
        ]


class _Forms:
    """The forms of one model, straight first, and pictures as it takes them."""

    def __init__(self, entry: ModelEntry, name: str, paths: dict[str, Path]) -> None:
        contract = entry.contract
        assert contract, "both entries have one"  # noqa: S101 - narrows the type
        side_px = contract.input.shape[-1] or 0
        generator = ImageGenerator(size=(side_px, side_px))
        self.name = name
        self.sessions = {form: OnnxSession(path, provider="cpu") for form, path in paths.items()}
        self.pictures = [
            to_input(
                [np.asarray(generator.image(number))],
                np.array(contract.input.subtract or 0, np.float32),
                np.array(contract.input.divide or 1, np.float32),
            )
            for number in range(_PICTURES)
        ]


def _mobilefacenet(store: ModelStore, folder: Path) -> _Forms:
    entry = store.catalogue["mobilefacenet"]
    shipped = store.pull(entry.name)
    source = store.cache / entry.name / entry.sha256[:16] / entry.source_filename
    if not source.is_file():
        raise BenchmarkError(
            f"{source} is missing: the model was imported without its source; run: "
            f"rm -r {store.cache / entry.name}; cl-serve models pull {entry.name}"
        )
    straight = folder / "mobilefacenet.onnx"
    convert(_without_speed(entry), source, straight)
    return _Forms(entry, entry.name, {STRAIGHT: straight, SHIPPED: shipped})


def _dinov2(store: ModelStore, folder: Path) -> _Forms:
    entry = store.catalogue["dinov2_vits14"]
    paths = {
        form: folder / f"dinov2_{number}.onnx"
        for number, form in enumerate((STRAIGHT, SHIPPED, DYNAMIC_INT8))
    }
    published = folder / "dinov2.onnx"
    published.write_bytes(dinov2().SerializeToString())
    convert(_without_speed(entry), published, paths[STRAIGHT])
    convert(entry, published, paths[SHIPPED])
    quantize_dynamic(
        paths[SHIPPED],
        paths[DYNAMIC_INT8],
        op_types_to_quantize=["MatMul"],
        per_channel=True,
        weight_type=QuantType.QInt8,
    )
    return _Forms(entry, f"{entry.name}_stand_in", paths)


def _without_speed(entry: ModelEntry) -> ModelEntry:
    assert entry.convert, "both entries have one"  # noqa: S101 - narrows the type
    steps = tuple(step for step in entry.convert.steps if step.step not in _FOR_SPEED)
    return entry.model_copy(update={"convert": entry.convert.model_copy(update={"steps": steps})})


def _compare(forms: _Forms) -> list[dict[str, Any]]:
    times_s: dict[str, list[float]] = {form: [] for form in forms.sessions}
    found: dict[str, list[NDArray[np.float32]]] = {}
    for session in forms.sessions.values():
        session.warm_up()
    for _ in range(_ROUNDS):
        found = {form: [] for form in forms.sessions}
        for picture in forms.pictures:
            for form, session in forms.sessions.items():
                start_s = time.process_time()
                (embedding,) = session.run(picture)
                times_s[form].append(time.process_time() - start_s)
                found[form].append(embedding[0])
    ms = {form: statistics.median(times) * 1000 for form, times in times_s.items()}
    return [
        {
            "model": forms.name,
            "form": form,
            "ms_per_image": ms[form],
            "ratio": ms[STRAIGHT] / ms[form],
            "cosine": statistics.mean(map(_cosine, found[STRAIGHT], found[form])),
        }
        for form in forms.sessions
    ]


def _cosine(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def main() -> None:
    """Print what ``measure`` gives."""
    table = Table(title="Converted graphs, one thread, one picture")
    for column in ("model", "form", "ms", "times as fast", "cosine"):
        table.add_column(column, justify="left" if column in ("model", "form") else "right")
    for row in measure():
        numbers = (f"{row['ms_per_image']:.2f}", f"{row['ratio']:.2f}", f"{row['cosine']:.5f}")
        table.add_row(row["model"], row["form"], *numbers)
    Console().print(table)


if __name__ == "__main__":
    main()
