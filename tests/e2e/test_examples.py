"""The examples of the documents, copied and run as a reader would."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deployments.runtime.random_media import VideoGenerator
from deployments.runtime.types import Media
from serve_app.stack import RunningStack
from tests.e2e.blocks import ROOT, Block, blocks_of, run

TESTED_ELSEWHERE = ("deployment.md", "quantization.md")
"""Their examples follow one another: ``test_deployment_guide.py``, and ``test_guide.py`` of the
command ``quantize``."""

DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(path for path in ROOT.glob("docs/*.md") if path.name not in TESTED_ELSEWHERE),
    *sorted(ROOT.glob("deployments/*/README.md")),
]


def examples() -> Iterator[object]:
    """Yield every block of shell or Python that can be run."""
    for document in DOCUMENTS:
        for block in blocks_of(document):
            if block.language in ("sh", "python") and block.is_run:
                yield pytest.param(block, id=block.name)


@pytest.mark.parametrize("block", list(examples()))
def test_example(
    running: RunningStack,
    photo: Callable[[str], Media],
    tmp_path: Path,
    block: Block,
) -> None:
    """Every line of an example succeeds; no HTTP answer is an error."""
    (tmp_path / "photo.jpg").write_bytes(photo("obama").data)
    VideoGenerator(duration_s=1).write(tmp_path / "video.mp4")
    state = str(Path(running.token).parents[1])
    run(block, tmp_path, running.url, {"XDG_STATE_HOME": state})
