"""Mistakes that people make: each file in ``broken`` says in its first lines what it is told."""

from pathlib import Path

import pytest

from deployments.runtime.errors import ConfigError
from serve_app.app import check_graph
from serve_app.config import load_file
from serve_app.settings import DEFAULT_CATALOGUE
from serve_app.stores import open_models

BROKEN = sorted(Path(__file__).with_name("broken").glob("*.yaml"))
EXPECT = "# expect: "


def expected_messages(path: Path) -> list[str]:
    """Return what a file says it is told, from the number of the line on."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line.removeprefix(EXPECT) for line in lines if line.startswith(EXPECT)]


def check_file(path: Path) -> None:
    """Do what ``cl-serve check`` and ``cl-serve up`` do."""
    file = load_file(path)
    check_graph(file, open_models(file.args.models))


@pytest.mark.parametrize("path", BROKEN, ids=lambda path: path.stem)
def test_broken_file(path: Path) -> None:
    """A mistake is said with file, line, key, value and what was expected, and nothing else is."""
    with pytest.raises(ConfigError) as raised:
        check_file(path)
    told = str(raised.value).replace(str(DEFAULT_CATALOGUE), "models.yaml").splitlines()
    assert expected_messages(path) == [line.removeprefix(str(path)) for line in told]
    assert all(line.startswith(f"{path}:") for line in told)
