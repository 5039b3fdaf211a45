"""The code blocks of a document, and how one is run as a reader would.

What stands behind the language says whether it is run: nothing, or ``no-test: why not``.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NO_TEST = "no-test: "

_BLOCK = re.compile(
    r"^(?P<indent> *)```(?P<language>\w+)(?: (?P<remark>[^\n]+))?\n(?P<code>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
_TIMEOUT_S = 240


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block: where it is, its language, what stands behind that, and its code."""

    name: str
    language: str
    remark: str
    code: str

    @property
    def is_run(self) -> bool:
        """Whether a reader, and the tests, can run it as it stands."""
        return not self.remark.startswith(NO_TEST)


def blocks_of(document: Path) -> Iterator[Block]:
    """Yield the blocks that name their language, named by document and line."""
    text = document.read_text(encoding="utf-8")
    for match in _BLOCK.finditer(text):
        line = text.count("\n", 0, match.start("language")) + 1
        code = re.sub(rf"^{match['indent']}", "", match["code"], flags=re.MULTILINE)
        name = f"{document.relative_to(ROOT)}:{line}"
        yield Block(name, match["language"], match["remark"] or "", code)


def run(block: Block, folder: Path, url: str, environment: Mapping[str, str]) -> str:
    """Run a block of shell or Python in a folder; every line must succeed.

    Args:
        block: what to run.
        folder: where.
        url: takes the place of the default address.
        environment: variables besides those of this process.

    Returns:
        What it printed.

    """
    program = Path(sys.executable)
    path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
    code = block.code.replace("http://127.0.0.1:8000", url)
    # --fail turns an HTTP error into an exit code; -e stops at the first line that fails.
    shell = code.replace("curl ", "curl --silent --show-error --fail ")
    command = ["sh", "-ec", shell] if block.language == "sh" else [str(program), "-c", code]
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PATH": path, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, f"{block.name}\n{code}\n{done.stdout}"
    return done.stdout
