"""The examples of the documents, copied and run as a reader would.

A block that can't run here is preceded by a comment ``<!-- not executed: why -->``.
"""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deployments.runtime.random_media import VideoGenerator
from deployments.runtime.types import Media
from serve_app.stack import RunningStack

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(ROOT.glob("docs/*.md")),
    *sorted(ROOT.glob("deployments/*/README.md")),
]
BLOCK = re.compile(
    r"(?P<skip><!-- not executed: [^>]+ -->\n)?^```(?P<language>sh|python)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


def examples() -> Iterator[object]:
    """Yield every block of shell or Python, with its document and line as its name."""
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        for match in BLOCK.finditer(text):
            if match["skip"] is None:
                line = text.count("\n", 0, match.start("language")) + 1
                name = f"{document.relative_to(ROOT)}:{line}"
                yield pytest.param(match["language"], match["code"], id=name)


@pytest.mark.parametrize(("language", "code"), list(examples()))
def test_example(
    running: RunningStack,
    photo: Callable[[str], Media],
    tmp_path: Path,
    language: str,
    code: str,
) -> None:
    """Every line of an example succeeds; no HTTP answer is an error."""
    (tmp_path / "photo.jpg").write_bytes(photo("obama").data)
    VideoGenerator(duration_s=1).write(tmp_path / "video.mp4")
    code = code.replace("http://127.0.0.1:8000", running.url)
    program = Path(sys.executable)
    environment = {
        **os.environ,
        "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}",
        "XDG_STATE_HOME": str(Path(running.token).parents[1]),
    }
    # --fail turns an HTTP error into an exit code; -e stops at the first line that fails.
    shell = code.replace("curl ", "curl --silent --show-error --fail ")
    command = ["sh", "-ec", shell] if language == "sh" else [str(program), "-c", code]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{code}\n{done.stdout}\n{done.stderr}"
