"""The command line: help that teaches, and errors that are sentences."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.cli import cli
from benchmarks.cli import compare as module
from benchmarks.cli import documents as command
from benchmarks.errors import BenchmarkError
from benchmarks.report import documents
from tests.benchmarks import made_up


@pytest.mark.parametrize("arguments", [[], ["hosts"], ["batching"]])
def test_help_explains_each_command(arguments: list[str]) -> None:
    """Help names the options; the decision that it serves, where there is one."""
    shown = CliRunner().invoke(cli, [*arguments, "--help"])
    assert 0 == shown.exit_code
    assert "--seconds" in shown.output


def test_help_shows_examples() -> None:
    """Somebody who has never run it can copy a line."""
    assert "python -m benchmarks --quick" in CliRunner().invoke(cli, ["--help"]).output


def test_batching_prints_a_row_per_policy_and_load() -> None:
    """Two policies, two waits, three numbers of clients."""
    shown = CliRunner().invoke(cli, ["batching", "--seconds", "0.1"])
    assert 0 == shown.exit_code, shown.output
    assert 6 == shown.output.count("batch, then slot")
    assert 6 == shown.output.count("slot, then batch")


def test_a_subject_that_is_not_there_is_refused() -> None:
    """The message lists those that are."""
    shown = CliRunner().invoke(cli, ["--subject", "nginx"])
    assert 2 == shown.exit_code
    assert "no subject has 'nginx' in its name: bare processes, plain FastAPI" in shown.output


def test_documents_are_written_from_a_report(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A copy of the report, the page, its plots, and the README's table."""
    readme = tmp_path / "README.md"
    readme.write_text(f"# Ours\n{documents.BEGIN}\nold\n{documents.END}\n")
    places = {"FOLDER": tmp_path, "REPORT": tmp_path / "r.json", "README": readme}
    for name, place in {**places, "DOCUMENT": tmp_path / "page.md"}.items():
        monkeypatch.setattr(command, name, place)
    report = tmp_path / "report.json"
    report.write_text(json.dumps(made_up.document()))
    shown = CliRunner().invoke(cli, ["document", str(report)], catch_exceptions=False)
    assert 0 == shown.exit_code
    assert report.read_text() == (tmp_path / "r.json").read_text()
    assert "# Benchmarks" in (tmp_path / "page.md").read_text()
    assert (tmp_path / "throughput.svg").is_file()
    assert "old" not in readme.read_text()
    assert "| images/s, of bare, small photo | 0.80× |" in readme.read_text()


def test_an_expected_error_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No traceback, exit code 1, and brackets in the message are no markup."""

    def fail(**_: object) -> None:
        raise BenchmarkError("the peer said [/nothing]")

    monkeypatch.setattr(module, "cli", fail)
    with pytest.raises(SystemExit) as ended:
        module.main()
    assert 1 == ended.value.code
    assert "benchmarks: the peer said [/nothing]\n" == capsys.readouterr().err
