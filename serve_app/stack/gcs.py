"""Asks the head's Ray something: what it runs, or to hand over what runs on a node.

A program of its own, since Ray reads the cluster's secret once in a process, and since neither a
command nor a supervisor shall hold Ray in its memory. ``ask`` runs it.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from deployments.runtime.errors import StackError
from serve_app.stack.ray_runtime import client_environment

TIMEOUT_S = 60.0
"""A Raspberry Pi takes 5 s to import Ray."""

NO_DEADLINE_MS = 0

ALIVE = 0
"""``GcsNodeInfo.ALIVE`` of Ray's protocol."""

PREEMPTION = 2
"""``DRAIN_NODE_REASON_PREEMPTION`` of Ray's protocol. A node refuses the other reason, to be idle,
as long as anything runs on it."""

_WRONG_SECRET = 3
"""Exit code."""


def ask(head: str, token: Path, *question: str) -> Any:  # noqa: ANN401 - each question's own answer
    """Ask the Ray at ``head`` (``address:port``) with the secret in a file: see ``main``.

    Raises:
        StackError: it does not answer, refuses the secret, or can't do what it was asked.

    """
    try:
        done = subprocess.run(
            [sys.executable, "-m", "serve_app.stack.gcs", head, *question],
            env={**os.environ, **client_environment(token, head.partition(":")[0])},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise StackError(f"{head} did not answer within {TIMEOUT_S:g} s") from error
    if done.returncode == _WRONG_SECRET:
        raise StackError(
            f"{head} refuses this secret. `cl-serve node token` on the head shows the right one; "
            "give it to `cl-serve node join` again",
        )
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:] or ["it gives no reason"]
        raise StackError(f"{head} can't be asked: {last[0]}")
    return json.loads(done.stdout)


def main(head: str, question: str, *arguments: str) -> None:
    """Print the answer as JSON.

    ``versions`` are those of Ray and Python there; ``drain LABEL`` lets nothing new start on the
    living node with the label ``node=LABEL``, which tells Serve to move what runs there.
    """
    from ray import _raylet  # noqa: PLC0415 - only in the program
    from ray.exceptions import AuthenticationError  # noqa: PLC0415 - only in the program

    try:
        gcs: Any = _raylet.GcsClient(address=head)  # pyright: ignore[reportAttributeAccessIssue] - a C extension
    except AuthenticationError:
        sys.exit(_WRONG_SECRET)
    if question == "versions":
        answer = json.loads(gcs.internal_kv_get(b"CLUSTER_METADATA", b"cluster"))
    else:
        answer = _drain(gcs, *arguments)
    print(json.dumps(answer))  # noqa: T201 - its answer


def _drain(gcs: Any, label: str) -> str:  # noqa: ANN401 - Ray has no types for it
    ids = [
        node_id.hex()
        for node_id, node in gcs.get_all_node_info().items()
        if node.state == ALIVE and node.labels.get("node") == label
    ]
    if not ids:
        sys.exit("it does not know this node any more")
    taken, why_not = gcs.drain_node(ids[0], PREEMPTION, "cl-serve node leave", NO_DEADLINE_MS)
    if not taken:
        sys.exit(f"it refused: {why_not}")
    return ids[0]


if __name__ == "__main__":
    main(*sys.argv[1:])
