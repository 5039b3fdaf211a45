"""The command line on a real stack."""

from pathlib import Path

from click.testing import CliRunner

from serve_app.cli.main import cli
from serve_app.stack import RunningStack, Stack


def test_up_while_it_runs_says_so(stack: Stack, running: RunningStack) -> None:
    """A second `up` says where the graph runs and starts nothing."""
    before = {p.pid for p in running.mark.processes()}
    result = CliRunner().invoke(cli, ["up", "--state", str(Path(running.token).parent)])
    assert result.exit_code == 0, result.output
    assert f"Already running at {running.url}" in result.output
    assert stack.running() == running
    assert before <= {p.pid for p in running.mark.processes()}


def test_down_without_a_stack(tmp_path: Path) -> None:
    """`down` where nothing runs says so and succeeds."""
    result = CliRunner().invoke(cli, ["down", "--state", str(tmp_path)])
    assert (result.exit_code, result.output) == (0, "Nothing is running.\n")
