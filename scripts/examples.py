"""Run every curl line of the README against a running graph, and tell what each answered.

    python scripts/examples.py                # the graph that runs, or one started for this
    python scripts/examples.py --stand-ins    # one with made-up weights for models not installed

The photo is one of the tests' photographs, the video is made here. A capability whose model is
not installed says so; that is no failure.
"""

import argparse
import json
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from deployments.runtime.models import ModelStore, load_catalogue
from deployments.runtime.random_media import VideoGenerator
from serve_app.config import load_file
from serve_app.settings import config_folder
from serve_app.stack import Stack
from serve_app.stack.ports import free_ports
from tests.stand_in_graph import on_stand_ins

ROOT = Path(__file__).resolve().parents[1]
ADDRESS = "http://127.0.0.1:8000"
NOT_INSTALLED = "is not installed on this machine"
SHOWN_CHARACTERS = 100


def main() -> None:
    """Run the examples; exit with 1 when one of them fails."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--stand-ins", action="store_true", help="made-up weights where needed")
    stand_ins = parser.parse_args().stand_ins
    console = Console()
    with (
        tempfile.TemporaryDirectory(prefix="cl-serve-examples-") as name,
        running_graph(Path(name), console, stand_ins=stand_ins) as url,
    ):
        folder = Path(name)
        write_samples(folder)
        verdicts = [run(line, url, folder, console) for line in curl_lines()]
    console.print(", ".join(f"{verdicts.count(kind)} {kind}" for kind in dict.fromkeys(verdicts)))
    sys.exit("failed" in verdicts)


def curl_lines() -> list[str]:
    """All lines of the README's shell blocks that begin with curl."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.startswith("curl ")]


def write_samples(folder: Path) -> None:
    """Put the files that the examples send into a folder."""
    photos = ModelStore(load_catalogue(ROOT / "tests" / "photos.yaml"))
    (folder / "photo.jpg").write_bytes(photos.pull("obama").read_bytes())
    VideoGenerator(size=(640, 360), duration_s=4, with_audio=True).write(folder / "video.mp4")


def run(line: str, url: str, folder: Path, console: Console) -> str:
    """Run one line; show it with its answer and return the verdict in a word or two."""
    command = shlex.split(line.replace(ADDRESS, url))
    wanted = ["--silent", "--show-error", "--write-out", "\n%{http_code}"]
    done = subprocess.run(
        [command[0], *wanted, *command[1:]],
        cwd=folder,
        capture_output=True,
        timeout=120,
        check=False,
    )
    body, _, status = done.stdout.rpartition(b"\n")
    text = body.decode(errors="replace") or done.stderr.decode(errors="replace")
    saved = folder / command[command.index("-o") + 1] if "-o" in command else None
    if saved and saved.exists():
        if status.startswith(b"2"):
            text = f"{saved.stat().st_size} bytes in {saved.name}"
        else:
            text = saved.read_text(errors="replace")
    verdict = "answered" if status.startswith(b"2") else "failed"
    if status == b"503" and NOT_INSTALLED in text:
        verdict, text = "not installed", json.loads(text)["detail"]
    colour = {"answered": "green", "failed": "bold red"}.get(verdict, "yellow")
    if verdict == "answered":
        text = text[:SHOWN_CHARACTERS] + ("…" if len(text) > SHOWN_CHARACTERS else "")
    console.print(escape(line), style="bold", highlight=False, soft_wrap=True)
    answer = f"  [{colour}]{verdict}[/]  {escape(text.strip())}"
    console.print(answer, highlight=False, soft_wrap=True)
    return verdict


@contextmanager
def running_graph(folder: Path, console: Console, *, stand_ins: bool) -> Iterator[str]:
    """Give the address of the graph that runs here, or of one that runs during the block."""
    running = None if stand_ins else Stack().running()
    if running is not None:
        yield running.url
        return
    file = load_file(config_folder() / "serve.yaml").with_overrides(
        port=free_ports(1)[0],
        offline=True,
    )
    file.raw["applications"][0]["args"]["outputs"] = {"folder": str(folder / "outputs")}
    if stand_ins:
        file = on_stand_ins(file, folder / "stand-ins")
    stack = Stack(folder / "state")
    try:
        yield stack.up(file, lambda step: console.print(f"{step} …", style="dim")).url
    finally:
        stack.down()


if __name__ == "__main__":
    main()
