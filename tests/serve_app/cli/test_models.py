"""The ``models`` commands, on a temporary cache with local files as sources."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from serve_app.cli.models import models

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command on three models: a default, one for research only, one without a source."""
    # Wide enough that no table cell is folded.
    monkeypatch.setenv("COLUMNS", "160")
    entries: dict[str, object] = {}
    for name, commercial_use in (("free", True), ("bound", False), ("gone", True)):
        content = name.encode()
        if name != "gone":
            (tmp_path / name).write_bytes(content)
        entries[name] = {
            "title": f"The {name} one",
            "licence": {
                "id": "MIT" if commercial_use else "research-only",
                "commercial_use": commercial_use,
                "url": "https://example.org/licence",
            },
            "default": name == "free",
            "sources": [{"file": {"path": name}}],
            "sha256": hashlib.sha256(content).hexdigest(),
            "size_bytes": len(content),
        }
    catalogue = tmp_path / "catalogue.yaml"
    catalogue.write_text(yaml.safe_dump({"entries": entries}, sort_keys=False))

    def run(*arguments: object, cache: str = "cache") -> Result:
        options = ["--catalogue", catalogue, "--cache", tmp_path / cache]
        return CliRunner().invoke(models, [str(argument) for argument in (*options, *arguments)])

    return run


def test_list(run: Run) -> None:
    """The list shows each model's state and its licence in plain words."""
    run("pull")
    result = run("list")
    lines = {line.split()[0]: line for line in result.output.splitlines() if line.strip()}
    assert 0 == result.exit_code
    assert ["free", "installed", "0.0", "MB", "MIT", "yes"] == lines["free"].split()
    assert "not installed" in lines["bound"]
    assert "no commercial use" in result.output


def test_pull_default(run: Run) -> None:
    """Without a name the default models are pulled."""
    result = run("pull")
    assert 0 == result.exit_code, result.output
    assert ["ready   free"] == result.output.strip().splitlines()


def test_pull_reports_failures(run: Run) -> None:
    """One failing model keeps no other from being pulled, and the exit code tells of it."""
    result = run("pull", "gone", "free")
    assert 1 == result.exit_code
    assert "failed  gone" in result.output
    assert "ready   free" in result.output
    assert "1 of 2 models failed\ngone: no source gave the file" in result.output
    assert "file gone: no such file" in result.output


def test_pull_needs_consent(run: Run) -> None:
    """A licence without commercial use must be accepted by name of the option."""
    refused = run("pull", "bound")
    assert 1 == refused.exit_code
    assert "https://example.org/licence" in refused.output
    assert 0 == run("pull", "bound", "--accept-licence").exit_code


def test_pull_unknown(run: Run) -> None:
    """A misspelt name is answered with the nearest one."""
    result = run("pull", "fre")
    assert 1 == result.exit_code
    assert "did you mean free" in result.output


def test_verify(run: Run, tmp_path: Path) -> None:
    """Verification fails once a file is corrupt, and says how to replace it."""
    run("pull")
    assert 0 == run("verify").exit_code
    [file] = (tmp_path / "cache" / "free").rglob("free")
    file.write_bytes(b"tampered")
    result = run("verify")
    assert 1 == result.exit_code
    assert "cl-serve models pull free" in result.output


def test_export_import(run: Run, tmp_path: Path) -> None:
    """Models travel from one cache to another in a file."""
    run("pull", "free", "bound", "--accept-licence")
    file = tmp_path / "models.tar"
    assert 0 == run("export", file).exit_code
    assert 1 == run("import", file, cache="other").exit_code
    result = run("import", file, "--accept-licence", cache="other")
    assert 0 == result.exit_code, result.output
    assert "installed: free, bound\n" == result.output
    assert 0 == run("--offline", "pull", cache="other").exit_code


def test_export_nothing(run: Run, tmp_path: Path) -> None:
    """Without an installed model there is nothing to export."""
    result = run("export", tmp_path / "models.tar")
    assert 1 == result.exit_code
    assert "nothing to export" in result.output


def test_wrong_catalogue(run: Run, tmp_path: Path) -> None:
    """A wrong catalogue is one message, not a traceback."""
    (tmp_path / "catalogue.yaml").write_text("models: {}")
    result = run("list")
    assert 1 == result.exit_code
    assert "models: unknown key" in result.output


@pytest.mark.parametrize("command", ["list", "pull", "verify", "export", "import"])
def test_help(run: Run, command: str) -> None:
    """Every command explains itself."""
    result = run(command, "--help")
    assert 0 == result.exit_code
    assert f"Usage: models {command}" in result.output
