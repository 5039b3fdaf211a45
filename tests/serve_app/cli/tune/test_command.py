"""``cl-serve tune``: what it writes, says and refuses."""

import json
import subprocess
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from deployments.runtime.errors import ConfigError, StackError
from serve_app.cli.tune import command, machine
from serve_app.cli.tune.bench import Pace
from serve_app.cli.tune.choice import Goal
from serve_app.cli.tune.crew import Figures
from serve_app.cli.tune.edit import Change
from serve_app.cli.tune.settings import NodeSetting, Setting
from serve_app.cli.tune.tuner import Tuned
from serve_app.stack import RunningStack
from serve_app.stack.processes import MARKER
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
    assert "Not tried: 40 processes, which needs" in result.stdout
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


def test_a_graph_that_runs() -> None:
    """Beside a graph nothing is measured; what to do is said."""
    state = Path("state")
    state.mkdir()
    running = RunningStack(
        stack_id="of-a-test",
        folder=str(state),
        url="http://127.0.0.1:8000",
        address="127.0.0.1",
        ports={},
        app_name="cl-ml-serve",
        config="serve.yaml",
        token="",
        overrides={},
    )
    (state / "stack.json").write_text(json.dumps(asdict(running)))
    with subprocess.Popen(["/bin/sleep", "60"], env={MARKER: "of-a-test"}) as process:
        try:
            result = run()
        finally:
            process.kill()
    assert isinstance(result.exception, StackError)
    assert "a graph runs on this machine, at http://127.0.0.1:8000" in str(result.exception)
    assert "end it with `cl-serve down` first" in str(result.exception)


NODE = NodeSetting(num_threads=1, max_batch_size=16, max_concurrent_batches=1)
OLD = Setting(1, 1, {"face_detection": NODE})
TWO = replace(OLD, replicas=2)


def test_what_is_verified(write_file: WriteFile) -> None:
    """The file as it is comes first, then the tuned one, then its next best settings."""
    file = write_file({"name": "face_detection"})
    first = Tuned("face_detection", 9.0, OLD, TWO.with_batch("face_detection", 4), [TWO, OLD])
    options = dict(command._options(file, [first]))
    assert ["the file as it is", "tuned", "face_detection: 2 processes"] == list(options)
    assert [0, 2, 1] == list(map(len, options.values()))
    text = file.path.read_text()
    (entry,) = command._with(file, text, options["tuned"]).document["applications"][0][
        "deployments"
    ]
    assert (2, {"face_detection": {"max_batch_size": 4}}) == (
        entry["num_replicas"],
        entry["user_config"],
    )


def test_what_is_confirmed() -> None:
    """Each value that is kept says what the whole stack did; the name of an entry says nothing."""
    figures = {
        command.CURRENT: Figures(10, 1, 1, 1, 1),
        "tuned": Figures(12, 1, 1, 1, 1),
    }
    changes = [Change(("a", "name"), "x"), Change(("a", "n"), 2, "9.0/s"), Change(("b",), 3)]
    found = command._confirmed(changes, figures, "tuned", Goal.THROUGHPUT)
    said = "over HTTP 12.0/s with all changes, 10.0/s before"
    assert ["", f"9.0/s; {said}", said] == [change.reason for change in found]


@pytest.mark.parametrize(
    ("goal", "limit", "expected"),
    [(Goal.LATENCY, 64, 1), (Goal.THROUGHPUT, 64, 8), (Goal.THROUGHPUT, 4, 4)],
)
def test_clients(write_file: WriteFile, goal: Goal, limit: int, expected: int) -> None:
    """No more requests are sent at once than one ingress takes."""
    file = write_file(limits={"max_concurrent_requests": limit})
    assert expected == command._clients(file, goal)
