"""Which commands of Ray's are changed, and that an unknown one is not guessed at."""

import pytest
from ray._private.workers import setup_worker

from deployments.runtime.errors import StackError
from serve_app.stack.ray_start import LAUNCHER, trimmed

WORKER = f"--python_worker_command=python {setup_worker.__file__} default_worker.py"


@pytest.mark.parametrize(
    ("command", "process_type", "expected"),
    [
        (["gcs_server"], "gcs_server", ["gcs_server"]),
        (
            ["dashboard.py"],
            "dashboard",
            ["dashboard.py", "--modules-to-load=ServeHead,StateHead"],
        ),
        (
            ["raylet", WORKER, f"--cpp_worker_command={setup_worker.__file__}"],
            "raylet",
            [
                "raylet",
                f"--python_worker_command=python {LAUNCHER} default_worker.py",
                f"--cpp_worker_command={setup_worker.__file__}",
            ],
        ),
    ],
)
def test_commands(command: list[str], process_type: str, expected: list[str]) -> None:
    """The dashboard loads what is used, and the raylet has Python's workers forked."""
    assert expected == trimmed(command, process_type)


@pytest.mark.parametrize("command", [["raylet"], ["raylet", "--python_worker_command=python x.py"]])
def test_unknown_raylet(command: list[str]) -> None:
    """A raylet that starts workers in another way is an error, since they would not be forked."""
    with pytest.raises(StackError, match="expected"):
        trimmed(command, "raylet")
