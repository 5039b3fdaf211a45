"""``python -m benchmarks.stand_ins``: writes the stand-ins and their catalogue, and times them."""

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import onnx
import onnxruntime as ort
from rich.console import Console
from rich.table import Table

from benchmarks.progress import steps
from benchmarks.stand_ins.builder import parameter_count
from benchmarks.stand_ins.catalogue import SUFFIX, write_catalogue
from benchmarks.stand_ins.dinov2 import dinov2
from benchmarks.stand_ins.mobileclip_image import mobileclip_image
from benchmarks.stand_ins.mobileclip_text import VOCABULARY, mobileclip_text
from benchmarks.stand_ins.tokenizer import clip_tokenizer

GRAPHS: dict[str, Callable[[], onnx.ModelProto]] = {
    "dinov2_vits14": dinov2,
    "mobileclip_s0_image": mobileclip_image,
    "mobileclip_s0_text": mobileclip_text,
}
TOKENIZER = "mobileclip_s0_tokenizer"

_RUNS = 10
_EXPECTED_S = 4.0  # a graph, written and timed


def write(folder: Path, name: str) -> onnx.ModelProto:
    """Build one of ``GRAPHS`` and write it to ``NAME_stand_in.onnx``."""
    model = GRAPHS[name]()
    path = folder / _file(name)
    path.write_bytes(model.SerializeToString(deterministic=True))
    return model


def write_all(folder: Path) -> Path:
    """Write all stand-ins and their catalogue into a folder; return the catalogue's path."""
    for name in GRAPHS:
        write(folder, name)
    return write_rest(folder)


def write_rest(folder: Path) -> Path:
    """Write the tokenizer, and the catalogue of it and of the graphs; return its path.

    The tokenizer has CLIP's ids and no merges: a token for each byte of a text.
    """
    # Start and end are the last two of the vocabulary, as in the published one.
    clip_tokenizer([], start_id=VOCABULARY - 2).save(str(folder / _file(TOKENIZER)))
    return write_catalogue(folder, {name: _file(name) for name in (*GRAPHS, TOKENIZER)})


def latency_ms(path: Path) -> float:
    """Median time of one row through a graph with one thread, of ``_RUNS`` after one for warmth."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3  # errors
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (node,) = session.get_inputs()
    random = np.random.default_rng(0)
    shape = (1, *node.shape[1:])
    tokens = node.type == "tensor(int64)"
    row = random.integers(0, 512, shape) if tokens else random.random(shape, np.float32)
    times_s: list[float] = []
    for _ in range(_RUNS + 1):
        start_s = time.perf_counter()
        session.run(None, {node.name: row})
        times_s.append(time.perf_counter() - start_s)
    return statistics.median(times_s[1:]) * 1000


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
def main(folder: Path) -> None:
    """Write stand-ins for DINOv2 and MobileCLIP into FOLDER, 300 MB, and time them.

    They have the published models' architecture and seeded weights, so they take as long to
    compute and their results mean nothing. FOLDER/models.yaml is the shipped catalogue with them
    added; their names end in _stand_in.

    \b
    Install them:
        cl-serve models --catalogue FOLDER/models.yaml pull \\
            dinov2_vits14_stand_in mobileclip_s0_image_stand_in mobileclip_s0_text_stand_in
    Use them, in a copy of config/serve.yaml:
        args: {models: {catalogue: FOLDER/models.yaml}, graph: {dino_embedding:
            {needs: [image], model: dinov2_vits14_stand_in}, ...}}
    """  # noqa: D301 - click's \b keeps the lines as they are
    console = Console()
    folder.mkdir(parents=True, exist_ok=True)
    table = Table(title="Stand-ins, one thread, one row")
    for column in ("model", "parameters", "MB", "ms"):
        table.add_column(column, justify="left" if column == "model" else "right")
    with steps(console, _EXPECTED_S * len(GRAPHS)) as progress:
        for name in GRAPHS:
            with progress.step(name + SUFFIX, _EXPECTED_S):
                parameters = parameter_count(write(folder, name))
                path = folder / _file(name)
                size = f"{path.stat().st_size / 1e6:.1f}"
                table.add_row(name + SUFFIX, f"{parameters:,}", size, f"{latency_ms(path):.1f}")
    catalogue = write_rest(folder)
    console.print(table)
    console.print(f"Catalogue: {catalogue}", soft_wrap=True)


def _file(name: str) -> str:
    return f"{name}{SUFFIX}.{'json' if name == TOKENIZER else 'onnx'}"
