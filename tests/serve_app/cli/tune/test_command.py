"""``cl-serve tune``: what it writes, says and refuses."""

from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from deployments.runtime.errors import ConfigError
from serve_app.cli.tune import command, machine
from serve_app.cli.tune.bench import Pace
from tests.serve_app.cli.tune.conftest import WriteFile
from tests.serve_app.cli.tune.test_tuner import IN_INGRESS


@pytest.fixture(autouse=True)
def _small_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One core, some memory, and hardly any time; what is written lands in a folder of its own."""
    pace = Pace(warm_up_s=0.0, window_s=0.05, requests=1, rounds=1, batch_sizes=(16,))
    monkeypatch.setattr(command, "QUICK", pace)
    monkeypatch.setattr(machine, "cores", lambda: 1)
    monkeypatch.setattr(machine, "memory_for_replicas_mb", lambda: 1000.0)
    monkeypatch.setenv("COLUMNS", "120")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def run(*options: str | Path) -> Result:
    """Run the command with a state folder in which nothing runs."""
    arguments = ["--quick", "--state", "state", *map(str, options)]
    return CliRunner().invoke(command.tune, arguments)


def test_writes_a_file(write_file: WriteFile) -> None:
    """The tuned file is the same but for what is better, and says why; it is shown as well."""
    entry = {"name": "ingress", "num_replicas": 40}
    file = write_file(entry, hosts=IN_INGRESS)
    text = file.path.read_text()
    result = run("--config", file.path)
    assert (0, None) == (result.exit_code, result.exception)
    written = Path("my.tuned.yaml").read_text()
    assert {"num_replicas": 1, "name": "ingress"} == yaml.safe_load(written)["applications"][0][
        "deployments"
    ][0]
    (reason,) = [line for line in written.splitlines() if "cl-serve tune: " in line]
    assert "with 1 process, too much memory with 40 processes" in reason
    same = written.replace(f"{reason}\n", "").replace("num_replicas: 1\n", "num_replicas: 40\n")
    assert text == same
    assert "40 processes" in result.stdout
    assert "deployments[0].num_replicas: 1" in result.stdout
    assert "Start it: cl-serve up --config my.tuned.yaml" in result.stdout


def test_nothing_is_better(write_file: WriteFile) -> None:
    """A file that suits the machine is left alone, and no other one is written."""
    file = write_file({"name": "ingress"}, hosts=IN_INGRESS)
    result = run("--config", file.path, "--output", "other.yaml")
    assert 0 == result.exit_code
    assert "suits this machine: nothing is better by 5 %" in result.stdout
    assert not Path("other.yaml").exists()


def test_existing_output(write_file: WriteFile) -> None:
    """A file that is there is not overwritten, and that is said before minutes have passed."""
    Path("my.tuned.yaml").write_text("mine")
    result = run("--config", write_file().path)
    assert isinstance(result.exception, ConfigError)
    assert "my.tuned.yaml exists already; remove it" in str(result.exception)
    assert "mine" == Path("my.tuned.yaml").read_text()


def test_output_in_no_folder(write_file: WriteFile) -> None:
    """A folder that is not there is named."""
    result = run("--config", write_file().path, "--output", "nowhere/my.yaml")
    assert "there is no folder nowhere" in str(result.exception)


def test_relative_paths(write_file: WriteFile) -> None:
    """A file whose paths start at its folder can't be copied elsewhere; where it can is said."""
    file = write_file(outputs={"folder": "outputs"})
    result = run("--config", file.path)
    assert "paths that start at its own folder" in str(result.exception)
    assert f"--output {file.path.parent / 'my.tuned.yaml'}" in str(result.exception)
