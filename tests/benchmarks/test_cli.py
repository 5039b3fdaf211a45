"""The command line: help that teaches, and errors that are sentences."""

import pytest
from click.testing import CliRunner

from benchmarks import cli as module
from benchmarks.cli import cli
from benchmarks.errors import BenchmarkError


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
