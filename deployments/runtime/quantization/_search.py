"""The search for the layers that must stay in float32: as few as will do.

Each layer is quantised alone, and the change of the outputs says how sensitive it is. Then the
number of layers to spare, the most sensitive first, is found by halving: a graph counts as good
when it agrees with float32 on the calibration photos. The last word has a validation on others.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from deployments.runtime.onnx_session import OnnxSession
from deployments.runtime.quantization._methods import StaticInt8

RANKING_ROWS = 4
"""Rows on which single layers are compared: the search only needs their order, and roughly."""

Report = Callable[[str, float], None]
"""Is told what goes on, and which share of it is done."""


def find_float_layers(
    quantizer: StaticInt8, good_enough: Callable[[Path], bool], target: Path, report: Report
) -> tuple[str, ...]:
    """Write the graph with as many layers in 8 bits as agree with float32.

    Args:
        quantizer: writes graphs.
        good_enough: tells whether a graph agrees with float32.
        target: where the graph is written.
        report: is told of the progress.

    Returns:
        The layers that were left in float32, the most sensitive first. None, with all layers in
        8 bits, also where no number of them was good enough.

    """
    names = quantizer.layers
    report("every layer in 8 bits", 0.0)
    quantizer.write(target, names)
    if good_enough(target):
        return ()
    ranked = _by_sensitivity(quantizer, target, report)
    bad, good = 0, len(names)  # layers in float32; all of them would be good, and no gain
    while good - bad > 1:
        spared = (bad + good) // 2
        report(f"{spared} of {len(names)} layers in float32", 0.9)
        quantizer.write(target, ranked[spared:])
        if good_enough(target):
            good = spared
        else:
            bad = spared
    found = ranked[:good] if good < len(names) else ()
    quantizer.write(target, [name for name in names if name not in found])
    return found


def _by_sensitivity(quantizer: StaticInt8, scratch: Path, report: Report) -> tuple[str, ...]:
    """Sort layers by how much the outputs change when each alone is in 8 bits, largest first."""
    batch = np.stack(quantizer.rows[:RANKING_ROWS])
    expected = OnnxSession(quantizer.prepared, provider="cpu").run(batch)
    names = quantizer.layers
    changes: dict[str, float] = {}
    for number, name in enumerate(names):
        report(f"layer {number + 1} of {len(names)} alone in 8 bits", 0.9 * number / len(names))
        quantizer.write(scratch, [name])
        found = OnnxSession(scratch, provider="cpu").run(batch)
        changes[name] = sum(
            float(np.linalg.norm(got - want) / np.linalg.norm(want))
            for want, got in zip(expected, found, strict=True)
        )
    return tuple(sorted(names, key=changes.__getitem__, reverse=True))
