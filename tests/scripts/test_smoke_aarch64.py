"""What counts as the same on two kinds of processor; `make test-aarch64` runs the whole."""

import json
import subprocess
import sys
from typing import Any

import pytest

from scripts import smoke_aarch64

FACE = {"box": {"x1": 0.1, "y1": 0.1, "x2": 0.3, "y2": 0.4}, "embedding": [0.6, 0.8, 0.0]}


@pytest.mark.parametrize(
    ("there", "differences"),
    [
        ([FACE], []),
        ([FACE | {"embedding": [0.6, 0.8, 1e-4]}], []),
        ([], ["1 faces here, 0 there"]),
        (
            [FACE | {"box": FACE["box"] | {"x1": 0.101}}],
            ["box 0 by 0.001; expected at most 0.0001"],
        ),
        (
            [FACE | {"embedding": [0.8, 0.6, 0.0]}],
            ["embedding 0: cosine 0.960000; expected 0.9999"],
        ),
        (
            [FACE | {"embedding": [0.0, 0.0, 0.0]}],
            ["embedding 0: cosine nan; expected 0.9999"],
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
def test_compare(there: list[dict[str, Any]], differences: list[str]) -> None:
    """Kernels may round differently; another box, another person or no number is a difference."""
    assert differences == smoke_aarch64.compare([FACE], there)


def test_failing_command() -> None:
    """A program that fails ends the run with what it said."""
    with pytest.raises(SystemExit, match="no such model"):
        smoke_aarch64.check([sys.executable, "-c", "import sys; sys.exit('no such model')"])


def test_same_machine() -> None:
    """The program imports every module, finds the face of the sample, and is equal to itself."""
    report = json.loads(
        subprocess.run(
            [sys.executable, "-m", "scripts.faces_here"],
            cwd=smoke_aarch64.ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    )
    assert len(report["faces"]) == 1
    assert report["modules"] > 150
    assert [] == smoke_aarch64.compare(report["faces"], report["faces"])
